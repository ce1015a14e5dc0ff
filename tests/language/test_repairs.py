"""Mistakes of syntax past which a recipe is read."""

import pytest

from recipec.diagnostics.fixes import fixed
from recipec.language.nodes import Node
from recipec.language.yaml_reader import read_source

RIGHT = """\
name: x
stages:
  a:
    kind: rl
    loss: {beta: 0.5}
    use: [b, c]
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "column", "says"),
    [
        ("loss: {", "loss {", 5, 5, "a colon is missing after `loss`"),
        ("kind: rl", "kind rl", 4, 5, "a colon is missing after `kind`"),
        ("use: [", "use [", 6, 5, "a colon is missing after `use`"),
        ("stages:", "stages", 2, 1, "a colon is missing after `stages`"),
        ("  a:", "  a  # the first", 3, 3, "a colon is missing after `a`"),
        ("name: x", "name x", 1, 1, "a colon is missing after `name`"),
        ("kind: rl", "kind:rl", 4, 5, "a space is missing after `kind:`"),
        ("kind: rl", "kind = rl", 4, 5, "`=` is in the place of a colon"),
        ("kind: rl", "kind\uff1arl", 4, 5, "`\uff1a` is in the place of a colon"),
        ("kind: rl", "kind=rl", 4, 5, "`=` is in the place of a colon"),
        ("0.5}", "0.5", 5, 21, "a `{` is not closed"),
        ("0.5}", "0.5  # no KL", 5, 21, "a `{` is not closed"),
        ("c]", "c", 6, 15, "a `[` is not closed"),
        ("0.5}", "0.5}}", 5, 22, "this `}` closes nothing"),
        ("c]", "c]]", 6, 16, "this `]` closes nothing"),
        ("0.5}", "0.5},", 5, 22, "a line does not end in `,`"),
        ("0.5}", "0.5};", 5, 22, "a line does not end in `;`"),
        ("0.5}", "0.5} // no KL", 5, 23, "a comment begins with `#`"),
    ],
)
def test_a_mistake_of_syntax_is_said_once_and_reading_goes_on(old, new, line, column, says):
    """The message is at its place, the rest is read as it was meant, and the edit gives a text that is right."""
    text = RIGHT.replace(old, new, 1)
    source = read_source("r.yaml", text)
    (found,) = source.diagnostics
    assert (found.code, found.message) == ("RC105", says)
    assert (found.spans[0].line, found.spans[0].column) == (line, column)
    right = read_source("r.yaml", RIGHT).root
    assert source.complete
    assert source.root.plain() == right.plain()
    assert read_source("r.yaml", fixed(text, [found.fix])[0]).diagnostics == ()


def test_places_after_a_mended_mistake_are_those_of_the_file():
    """A character that was added moves no place on its line or after it."""
    source = read_source("r.yaml", "a {b: 1, c: 2}\nd: 3\n")
    inner = source.root.value["a"].value["c"]
    assert (inner.span.line, inner.span.column, inner.span.end_column) == (1, 13, 14)
    assert (source.root.value["d"].span.line, source.root.value["d"].span.column) == (2, 4)


def test_several_mistakes_of_syntax_are_said_in_one_reading():
    """Each is mended, up to a number that bounds the time."""
    source = read_source("r.yaml", "a {b: 1}\nc: {d: 1\nf: [1]]\ne = 2\n")
    assert [found.spans[0].line for found in source.diagnostics] == [1, 2, 3, 4]
    assert source.root.plain() == {"a": {"b": 1}, "c": {"d": 1}, "f": [1], "e": 2}
    many = read_source("r.yaml", "".join(f"a{number} {{b: 1}}\n" for number in range(50)))
    assert not many.complete
    assert len(many.diagnostics) < 20


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("a: \u201c1e-5\u201d", "1e-5"),
        ("a: \u201cx y\u201d", '"x y"'),
        ("a: {b: \u2018x\u2019, c: 1}", '"x"'),
        ("\u201ca\u201d: 1", '"a"'),
    ],
)
def test_typographic_quotes_are_one_mistake_and_their_text_is_read(text, fix):
    """The value is that between the quotes, and the edit writes it so."""
    source = read_source("r.yaml", text)
    (found,) = source.diagnostics
    assert (found.code, found.fix.text) == ("RC154", fix)
    right = read_source("r.yaml", fixed(text, [found.fix])[0])
    assert right.diagnostics == ()
    assert right.root.plain() == source.root.plain()


def test_typographic_quotes_around_a_reference_are_one_mistake():
    """The reference in them is read, and is not also said to lack quotes."""
    source = read_source("r.yaml", "a: {b: \u201c${c}\u201d}\nc: 1\n")
    assert [found.code for found in source.diagnostics] == ["RC154"]
    assert source.root.plain() == {"a": {"b": "${c}"}, "c": 1}


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("a: {b = 1}", "`=` is in the place of a colon: write `b: 1`"),
        ("a: {b=1}", "`=` is in the place of a colon: write `b: 1`"),
        ("a: {b: q_proj,v_proj}", "a list has brackets: write `b: [q_proj, v_proj]`"),
        ("a: {b: \u201cx, y\u201d}", 'write `b: "x, y"`'),
    ],
)
def test_a_word_without_a_value_says_what_was_meant(text, remedy):
    """The remedy is the edit."""
    (found,) = read_source("r.yaml", text).diagnostics
    assert found.code == "RC100"
    assert remedy in found.help


@pytest.mark.parametrize(("written", "right"), [("010", "10"), ("-07", "-7"), ("000", "0")])
def test_a_number_with_a_leading_zero_is_refused(written, right):
    """Readers of YAML 1.1 take it for an octal number; a text in quotes and `0o10` are plain."""
    (found,) = read_source("r.yaml", f"a: {written}").diagnostics
    assert (found.code, found.fix.text) == ("RC155", right)
    assert not read_source("r.yaml", f"a: '{written}'\nb: 0o10\nc: 0\nd: 0.5\n").diagnostics


def test_an_anchor_given_twice_is_refused():
    """An alias would mean the last of them."""
    (found,) = read_source("r.yaml", "a: &x 1\nb: &x 2\nc: *x\n").diagnostics
    assert (found.code, found.spans[0].line, found.spans[1].line) == ("RC107", 2, 1)
    assert "`&x`" in found.message


def test_a_value_that_was_refused_is_known_as_such():
    """What is checked later can tell it from a value."""
    root = read_source("r.yaml", "a: *nothing\nb: 1e999\nc: 1\n").root
    assert isinstance(root, Node)
    assert [root.value[key].refused for key in "abc"] == [True, True, False]


@pytest.mark.parametrize(
    "text", ['a: {b: "x, c: 1}\nd: {e: "y"}\n', 'a:\n  b: "x\n  c: 1\n  d: "y z"\n', "a: 'x\nb: 'y'\n"]
)
def test_quotes_that_reach_over_lines_are_shown_where_they_begin(text):
    """The library stops at the next quotes, which are right; the message names the first and where they ended."""
    found = read_source("r.yaml", text).diagnostics[0]
    assert found.message == "these quotes are not closed on their line"
    assert text.split("\n")[found.spans[0].line - 1][found.spans[0].column - 1] in "\"'"
    assert (found.spans[0].line, found.spans[1].label) == (
        text[: text.index("x")].count("\n") + 1,
        "reading ended here",
    )


@pytest.mark.parametrize(
    ("gap", "says"),
    [
        (" ", "a comma is missing before `c_d`"),
        ("\n  ", "a comma is missing before `c_d`"),
        ("; ", "`;` is in the place of a comma"),
        (";", "`;` is in the place of a comma"),
        ("\uff0c", "`\uff0c` is in the place of a comma"),
    ],
)
def test_two_entries_without_a_comma(gap, says):
    """They are read as two, and the message is where the comma belongs."""
    text = f"a: {{b: 8{gap}c_d: 2}}\ne: 3\n"
    source = read_source("r.yaml", text)
    (found,) = source.diagnostics
    assert (found.message, found.spans[0].line, found.spans[0].column) == (says, 1, 9)
    assert source.root.plain() == {"a": {"b": 8, "c_d": 2}, "e": 3}
    assert read_source("r.yaml", fixed(text, [found.fix])[0]).diagnostics == ()


@pytest.mark.parametrize(("inner", "value"), [("{d: 1}", {"d": 1}), ("[1]", [1])])
def test_a_word_before_an_entry_in_braces_is_a_value(inner, value):
    """`causal_lm scratch: {…}` is a value and an entry that has a mapping or a list: a text would not go on so."""
    source = read_source("r.yaml", f"a: {{b: word c: {inner}}}\nd: 3\n")
    assert [found.message for found in source.diagnostics] == ["a comma is missing before `c`"]
    assert source.root.plain() == {"a": {"b": "word", "c": value}, "d": 3}


def test_a_text_with_a_colon_is_not_two_entries():
    """Words before the colon are the text."""
    (found,) = read_source("r.yaml", "a: {p: The answer: 3, b: 1}\n").diagnostics
    assert found.help == 'put it in quotes: `"The answer: 3"`'

"""Text to data with positions."""

import math

import pytest

from recipec.diagnostics.model import Span
from recipec.language.nodes import Node, Source
from recipec.language.yaml_reader import MAX_DEPTH, read_source


def read(text: str) -> Source:
    """Read a text."""
    return read_source("r.yaml", text)


def at(span: Span) -> tuple[int, int, int, int]:
    """Return lines and columns."""
    return span.line, span.column, span.end_line, span.end_column


def node(source: Source, *path: str | int) -> Node:
    """Return the node of a path."""
    found = source.root
    for step in path:
        found = found.value[step]
    return found


def codes(source: Source) -> list[str]:
    """Return the codes found, in order."""
    return [diagnostic.code for diagnostic in source.diagnostics]


def only(source: Source, code: str):
    """Return the one diagnostic, which has this code."""
    assert codes(source) == [code]
    return source.diagnostics[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("-0", 0), ("+3", 3), ("010", 10), ("0o17", 15),
        ("0x1F", 31), ("1_000", "1_000"), ("12:30", "12:30"), ("no", "no"), ("on", "on"), ("yes", "yes"),
        ("off", "off"),
        ("true", True), ("False", False), ("TRUE", True), ("tRue", "tRue"), ("~", None), ("null", None), ("Null", None),
        (".inf", math.inf), ("-.INF", -math.inf), ("2020-01-01", "2020-01-01"), ("0b11", "0b11"), ("1e", "1e"),
        ("'1'", "1"), ('"true"', "true"), ("0x", "0x"), ("+0x1", "+0x1"), ("-", "-"), ("1.2.3", "1.2.3"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    """Numbers are numbers, words are words, whatever YAML 1.1 made of them."""
    if text == "-":
        text = '"-"'
    read_value = node(read(f"a: {text}"), "a").value
    assert (read_value, type(read_value)) == (value, type(value))


def test_nan_is_a_number():
    """`.nan` is read as the float."""
    assert math.isnan(node(read("a: .nan"), "a").value)


def test_spans_of_keys_and_values_count_characters():
    """Lines and columns start at 1 and count characters, not bytes."""
    source = read('größe: {ä: "ö", b: [1, éé]}\nzwei: drei # x\n')
    assert at(node(source, "größe").key) == (1, 1, 1, 6)
    assert at(node(source, "größe").span) == (1, 8, 1, 28)
    assert at(node(source, "größe", "ä").span) == (1, 12, 1, 15)
    assert at(node(source, "größe", "b").key) == (1, 17, 1, 18)
    assert at(node(source, "größe", "b", 1).span) == (1, 24, 1, 26)
    assert at(node(source, "zwei").span) == (2, 7, 2, 11)


def test_spans_of_block_values_end_with_their_last_character():
    """A block text or mapping does not reach into the lines after it."""
    source = read("a: |\n  eins\n  zwei\n\n\nb:\n  c: 1\n  d:\n    - 2\n    - 3\n\n# note\ne: >-\n  x\n  y\nf:\ng: 1\n")
    assert at(node(source, "a").span) == (1, 4, 3, 7)
    assert at(node(source, "b").span) == (7, 3, 10, 8)
    assert at(node(source, "b", "d").span) == (9, 5, 10, 8)
    assert at(node(source, "e").span) == (13, 4, 15, 4)
    assert at(node(source, "f").span) == (16, 3, 16, 3)
    assert node(source, "a").value == "eins\nzwei\n"


def test_line_ends_and_byte_order_mark_do_not_move_positions():
    """CRLF, lone CR and a byte order mark leave lines and columns as an editor shows them."""
    source = read("\ufeffa: 1\r\nb: 2\rc: 3\n")
    assert source.root.plain() == {"a": 1, "b": 2, "c": 3}
    assert [at(node(source, key).span)[:2] for key in "abc"] == [(1, 4), (2, 4), (3, 4)]


def test_a_duplicate_key_shows_both_places():
    """Both keys are shown, the last counts, and the rest of the file is still read."""
    source = read("s:\n  lr: 1\n  lr: 2\nt: 3\n")
    found = only(source, "RC107")
    assert [at(span) for span in found.spans] == [(3, 3, 3, 5), (2, 3, 2, 5)]
    assert found.path == "s.lr"
    assert source.root.plain() == {"s": {"lr": 2}, "t": 3}


@pytest.mark.parametrize(
    ("text", "tag", "columns"),
    [("a: !include x.yaml", "!include", (4, 12)), ("a: !!python/object/apply:os.system [x]", "!!python/", (4, 35)),
     ("a: &n !x {b: 1}", "!x", (7, 9)), ("!t {a: 1}", "!t", (1, 3)), ("a: ! b", "!", (4, 5))],
)  # fmt: skip
def test_tags_are_refused_where_they_stand(text, tag, columns):
    """A tag is an error at the tag itself, and nothing is built from it."""
    found = only(read(text), "RC108")
    assert tag in found.message
    assert (found.spans[0].column, found.spans[0].end_column) == columns


def test_an_anchored_value_starts_after_its_anchor():
    """The span of a value leaves its anchor out, that of an alias is the alias."""
    source = read("a: &base {x: 1}\nb: *base\n")
    assert at(node(source, "a").span) == (1, 10, 1, 16)
    assert at(node(source, "b").span) == (2, 4, 2, 9)
    assert node(source, "b").anchor is node(source, "a") or node(source, "b").anchor.span == node(source, "a").span
    assert source.root.plain() == {"a": {"x": 1}, "b": {"x": 1}}


def test_an_alias_bomb_is_counted_not_expanded():
    """Nine lines of aliases are refused by the count of what they stand for."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "RC103" in codes(read("\n".join(lines)))


@pytest.mark.parametrize(("text", "says"), [("a: *b\nb: &b 1", "no anchor"), ("a: &a [*a]", "inside")])
def test_aliases_without_a_value_are_refused(text, says):
    """An alias needs an anchor before it, and cannot stand inside it."""
    assert says in only(read(text), "RC116").message


def test_depth_is_bounded():
    """The deepest allowed nesting is read, one more is refused, a million is refused as fast."""
    assert codes(read("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))) == []
    assert codes(read("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)) == ["RC103"]
    assert codes(read("a: " + "[" * 1_000_000)) == ["RC103"]


@pytest.mark.parametrize("key", ["1", "true", "null", "1.5", "[a]", "{a: 1}", ""])
def test_keys_that_are_no_text_are_refused(key):
    """Only text names things."""
    assert only(read(f"{{? {key} : 2, ok: 3}}"), "RC109")
    assert node(read(f"{{? {key} : 2, ok: 3}}"), "ok").value == 3


def test_quoted_numbers_are_keys():
    """`"1"` is text."""
    assert read('"1": a').root.plain() == {"1": "a"}


def test_merge_keys_are_refused_and_quoted_ones_are_plain_text():
    """`<<` is no part of YAML 1.2."""
    assert only(read("a: &a {x: 1}\nb: {<<: *a, y: 2}"), "RC110").spans[0].column == 5
    assert read('"<<": 1').root.plain() == {"<<": 1}


def test_flow_references_without_quotes_have_their_own_message_and_fix():
    """Each is shown with a fix, and reading goes on as if the quotes were there."""
    source = read("loss: {epsilon: ${vars.e}, l: [${a}, x${b}]}\na: 1\na: 2\n")
    assert codes(source) == ["RC106", "RC106", "RC106", "RC107"]
    first, second, third, _ = source.diagnostics
    assert (first.fix.text, at(first.fix.span)) == ('"${vars.e}"', (1, 17, 1, 26))
    assert at(second.spans[0]) == (1, 32, 1, 36)
    assert third.fix is None
    assert source.root.plain() == {"loss": {"epsilon": "${vars.e}", "l": ["${a}", "x${b}"]}, "a": 2}


def test_references_elsewhere_need_no_quotes():
    """Block values and quoted flow values are read as they stand."""
    assert codes(read("a: ${b}\nc: [\"${d}\", '${e}']\nf: x ${g} y")) == []


@pytest.mark.parametrize(
    ("text", "says", "place"),
    [
        ("title: GRPO: the paper", "`: `", (1, 12)),
        ("a:\n\tb: 1", "tab", (2, 1)),
        ("a: 'it's'", "follow the closing", (1, 8)),
        ("a: ]", "closes nothing", (1, 4)),
        ('a: "\\xzz"', "hexadecimal", (1, 7)),
        ("a: {p: 'it's', b: 1}", "follow the closing", (1, 12)),
        ("a: {p: Answer: 3}", "is a value already", (1, 14)),
        ("a: {p: Answer #[0-9]+, b: 1}\nc: 2", "begins a comment", (1, 15)),
        ("s:\n  a: 1\n    b: 2", "`b` is indented below `a`, which has a value", (3, 5)),
        ("s:\n  a:\n    b: 1\n   c: 2", "`c` has 3 spaces before it", (4, 4)),
        ("a: @x", "cannot start with `@`", (1, 4)),
        ("a: `x`", "cannot start with ```", (1, 4)),
        ("a: 'x\nb: 1", "quotes are not closed", (1, 4)),
        ('a: "\\q"', "backslash", (1, 4)),
        ("- a\nb: 1", "list", (2, 1)),
        ("a: |x\n  q", "nothing can follow", (1, 5)),
        ("a: *\n", "need a name", (1, 5)),
    ],
)
def test_syntax_errors_are_said_in_plain_words_where_they_are(text, says, place):
    """No word of the library reaches the user."""
    source = read(text)
    found = only(source, "RC105")
    assert says in found.message
    assert found.spans[0].line == place[0]
    assert abs(found.spans[0].column - place[1]) <= 1
    assert not source.complete


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "null", "- 1\n", "word"])
def test_a_recipe_is_a_mapping(text):
    """Anything else is refused with one diagnostic."""
    source = read(text)
    assert only(source, "RC134")
    assert source.root is None
    assert not source.complete


def test_several_documents_are_refused_at_the_second():
    """What stands before it is kept."""
    source = read("a: 1\n---\nb: 2\n")
    assert at(only(source, "RC111").spans[0]) == (2, 1, 2, 4)
    assert source.root.plain() == {"a": 1}


@pytest.mark.parametrize("number", ["1e999", "9" * 5000, "0x" + "f" * 5000, "-1e400"])
def test_numbers_that_cannot_be_held_are_refused(number):
    """They become neither infinity nor a crash."""
    assert len(only(read(f"a: {number}"), "RC117").message) < 100


@pytest.mark.parametrize("character", ["\0", "\x07", "\x85", "\u2028", "\ud800", "\x7f", "\ufeff"])
def test_characters_that_are_no_text_are_refused(character):
    """Also those that some readers take for the end of a line."""
    found = only(read(f"a: 1\nb: x{character}y"), "RC104")
    assert at(found.spans[0])[:2] == (2, 5)


def test_files_that_cannot_be_read_are_coded(tmp_path):
    """Missing files, directories, odd paths, wrong encodings and huge files are each said."""
    assert codes(read_source(tmp_path / "no.yaml")) == ["RC101"]
    assert codes(read_source(tmp_path)) == ["RC101"]
    (tmp_path / "mine.yaml").write_text("recipec: 1")
    assert f"such as `{tmp_path}/mine.yaml`" in read_source(tmp_path).diagnostics[0].help
    assert codes(read_source("/dev/zero")) == ["RC101"]
    assert codes(read_source("a\0b")) == ["RC101"]
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nname: größe".encode("latin-1"))
    found = only(read_source(latin), "RC102")
    assert at(found.spans[0])[:2] == (2, 9)
    wide = tmp_path / "wide.yaml"
    wide.write_bytes("a: 1".encode("utf-16"))
    assert "UTF-16" in only(read_source(wide), "RC102").message
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (2**20 + 1))
    assert codes(read_source(huge)) == ["RC103"]
    assert codes(read("#" * (2**20 + 1))) == ["RC103"]
    assert codes(read_source("r.yaml", "a: 1 # " + "x" * 2**19)) == []


def test_all_errors_are_found_in_one_run():
    """One kind of mistake does not hide the others."""
    source = read("a: !x 1\na: 2\n1: {b: ${c}}\nd: *e\n<<: {}\nf: 1e999\n")
    assert sorted(codes(source)) == ["RC106", "RC107", "RC108", "RC109", "RC110", "RC116", "RC117"]


def test_the_python_parser_reads_the_same(monkeypatch):
    """Without libyaml the values and spans are the same."""
    import yaml

    text = 'é: &a |\n  foo\n\n\nb: [*a, {c: "x", d: 1e-5}]\nplain: two\n  lines\ne: {f: ${g}}\n'
    expected = read(text)
    monkeypatch.setattr("recipec.language.yaml_reader._Parser", yaml.SafeLoader)
    source = read(text)
    assert source.root.plain() == expected.root.plain()
    assert node(source, "b", 1).span == node(expected, "b", 1).span
    assert node(source, "plain").span == node(expected, "plain").span
    assert source.diagnostics == expected.diagnostics


@pytest.mark.parametrize(
    ("text", "place", "says", "data"),
    [
        ("a: {b: 0,1, c: 2}", (1, 10), "write `b: 0.1`", {"b": 0.1, "c": 2}),
        ("a: {b: 2,000}", (1, 10), "write `b: 2000`, without a comma", {"b": 2000}),
        ("a: {b: 0.9, 0.99}", (1, 13), "write `b: [0.9, 0.99]`", {"b": 0.9}),
        ("a: {b:c}", (1, 5), "a space is missing after the colon: write `b: c`", {"b": "c"}),
        ("a: {b c, d: 1}", (1, 5), "a colon is missing: write `b: c`", {"b": "c", "d": 1}),
        ("a: {chat}", (1, 5), "such as `chat: true`", {}),
    ],
)
def test_a_word_without_a_value_in_braces_is_refused(text, place, says, data):
    """YAML would read it as a key with null, which is absence; what was meant is read, so that no error follows."""
    source = read(text)
    found = only(source, "RC100")
    assert at(found.spans[0])[:2] == place
    assert says in found.help
    assert source.root.plain() == {"a": data}


def test_a_colon_without_a_value_is_null():
    """A key that ends in a colon is null on purpose."""
    assert read("a: {b: , c: null}").root.plain() == {"a": {"b": None, "c": None}}

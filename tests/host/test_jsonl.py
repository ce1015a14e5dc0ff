"""JSON Lines: line numbers, the errors of broken lines, and text with line separators in it."""

import json
from pathlib import Path

import pytest

from recipec.diagnostics.errors.data import broken_row
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.jsonl import read_lines, read_objects, to_lines

SEPARATORS = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
"""Characters that end a line for ``str.splitlines`` and not in a JSONL file."""


def broken(line: int, problem: str, column: int) -> Diagnostic:
    """Build the diagnostic that a data file has."""
    return broken_row("a.jsonl", line, problem, column)


def test_blank_lines_count_and_are_left_out():
    """Line numbers are those of an editor; a byte order mark is accepted on the first line."""
    lines = b'\xef\xbb\xbf{"x": 1}\r\n\n  \n{"x": 2}'.split(b"\n")
    assert list(read_objects(lines, broken)) == [(1, {"x": 1}), (4, {"x": 2})]


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        (b"{", 2, "the file ends within this line"),
        (b"{\n", 2, "not JSON at column 2"),
        (b"{},", 3, "a comma after the object"),
        (b"{}, {}", 3, "not JSON at column 3: Extra data"),
        (b'{"x": "\xff"}', 8, "not UTF-8 at byte 8"),
        (b"[1]", 1, "a JSON object is needed, this is a list"),
        (b'{"x": NaN}', 1, "`NaN` is not a JSON number"),
        (b"[" * 100_000, 1, "nested too deeply"),
        (b"9" * 5000, 1, "thousands of digits"),
    ],
)
def test_a_broken_line_is_reported_with_its_place(line, column, words):
    """The caller's diagnostic gets the line, the column and the problem."""
    with pytest.raises(RecipeError) as refused:
        list(read_objects([b"{}", line], broken))
    (found,) = refused.value.diagnostics
    assert (found.spans[0].line, found.spans[0].column) == (2, column)
    assert words in found.message


@pytest.mark.parametrize(
    ("line", "words", "remedy"),
    [
        (b"{\n", "it is one object over many lines", "write it on one line"),
        (b"[\n", "it is a list of rows over many lines", "the ending `.json`"),
    ],
)
def test_a_document_over_many_lines_is_known_by_its_first(line, words, remedy):
    """The message says what the file is, and what to do with it."""
    with pytest.raises(RecipeError) as refused:
        list(read_objects([line, b"1\n"], broken))
    (found,) = refused.value.diagnostics
    assert words in found.message
    assert remedy in found.help


def test_hooks_see_what_json_cannot_express():
    """Hooks of the decoder may refuse values; their text is the problem."""

    def once(pairs):
        raise ValueError(f"the key {pairs[0][0]} is there twice")

    with pytest.raises(RecipeError, match="the key digits is there twice"):
        list(read_objects([b'{"digits": 1}'], broken, object_pairs_hook=once))


def test_line_separators_in_text_end_no_line(tmp_path: Path):
    """Text with Unicode line separators comes back whole from every reader."""
    rows = [{"text": SEPARATORS}, {"text": "\ud800"}]
    (tmp_path / "a.jsonl").write_text(to_lines(rows), encoding="utf-8")
    assert read_lines(tmp_path / "a.jsonl") == rows
    with (tmp_path / "a.jsonl").open("rb") as stream:
        assert [row for _, row in read_objects(stream, broken)] == rows


def test_an_unfinished_line_ends_our_own_file(tmp_path: Path):
    """What a killed process wrote last is left out, also within a character."""
    whole = json.dumps({"loss": 1.0}).encode() + b"\n"
    for rest in (b"", b'{"loss": 2', b'{"x": "\xc3'):
        (tmp_path / "metrics.jsonl").write_bytes(whole + rest)
        assert read_lines(tmp_path / "metrics.jsonl") == [{"loss": 1.0}]

"""Edits that move a key into the section that it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.model import COMMAND_LINE, PYTHON, Fix, Span

if TYPE_CHECKING:
    from recipec.language.resolve import Resolved

Path = tuple[str | int, ...]


def move(resolved: Resolved, at: Path, section: Mapping[str, Any], words: Sequence[str], text: str = "") -> Fix | None:
    """Return the edit that writes the value of the key ``at`` under ``words``, from the section around it on.

    ``section`` is what it has, and ``text`` the value, if it is written in another way there. The key must be alone on
    its line; None where that, or the place, does not allow it.
    """
    key, value = resolved.span(at, key=True), resolved.span(at)
    if key.file in {COMMAND_LINE, PYTHON} or key.file not in resolved.files or key.file != value.file:
        return None
    lines = resolved.text(key.file).split("\n")
    line = lines[key.line - 1]
    written = line[key.column - 1 : value.end_column - 1]
    if not key.line == value.line == value.end_line or written != line.strip():
        return None
    text = text or line[value.column - 1 : value.end_column - 1]
    around: Any = section
    depth = 0
    while depth < len(words) - 1 and isinstance(around.get(words[depth]), dict):
        around = around[words[depth]]
        depth += 1
    if words[depth] in around:
        return None
    for word in reversed(words[depth + 1 :]):
        text = f"{{{word}: {text}}}"
    text = f"{words[depth]}: {text}"
    message, here = f"move it to `{'.'.join(words)}`", Span(key.file, key.line, key.column, key.line, value.end_column)
    if not depth:
        return Fix(message, here, text)
    place = _into(resolved, (*at[:-1], *words[:depth]), around, text)
    return None if place is None or place[0].file != key.file else Fix(message, here, "", (place,))


def _into(resolved: Resolved, path: Path, section: Mapping[str, Any], text: str) -> tuple[Span, str] | None:
    """Return where to write a key in a section that the file has, and the text to insert there."""
    span = resolved.span(path)
    if span.file not in resolved.files or not section:
        return None
    lines = resolved.text(span.file).split("\n")
    if span.line == span.end_line and lines[span.line - 1][span.end_column - 2] == "}":
        end = span.end_column - 1
        return Span(span.file, span.line, end, span.line, end), f", {text}"
    first = resolved.span((*path, next(iter(section))), key=True)
    indent = lines[first.line - 1][: first.column - 1]
    if first.file != span.file or indent.strip():
        return None
    return Span(first.file, first.line, first.column, first.line, first.column), f"{text}\n{indent}"

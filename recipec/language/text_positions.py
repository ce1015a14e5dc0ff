"""Bytes to text, and indices of a text to spans."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from recipec.diagnostics.errors import text as errors
from recipec.diagnostics.model import Diagnostic, Span

MAX_BYTES = 2**20
"""A recipe of a megabyte is not a recipe: the longest known is 40 kB."""

_FORBIDDEN = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
"""Characters that YAML forbids, and those that reorder a line; this takes milliseconds to compile."""
_FORBIDDEN_ASCII = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_SPACES = re.compile(r"(?:^[ -]*|[\w}\]\"']:)([\u00a0\u2000-\u200b\u202f\u3000])", re.MULTILINE)
"""A character that YAML does not take for a space, where a line begins or a value follows."""


def _recipe_in(folder: str) -> str:
    """Say which recipe of a folder may be meant, or that the folder is a model."""
    if (Path(folder) / "run.json").is_file():
        return f"of a run, give its recipe: `{folder.rstrip('/')}/recipe.yaml`, or the one that it was made of"
    if (Path(folder) / "config.json").is_file():
        return f"it is a model: `recipec evaluate RECIPE --model {folder}` evaluates one"
    inside = sorted(path.name for path in Path(folder).glob("*.yaml"))
    return f"give a file in it, such as `{folder.rstrip('/')}/{inside[0]}`" if inside else ""


def read_text(path: str, file: str, chain: tuple[Span, ...], diagnostics: list[Diagnostic]) -> str | None:
    """Return the text at ``path``, called ``file`` in messages, or None and say in ``diagnostics`` why not."""
    try:
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            folder = stat.S_ISDIR(mode)
            kind, remedy = ("it is a directory", _recipe_in(file)) if folder else ("it is not a regular file", "")
            diagnostics.append(errors.cannot_read(file, kind, chain, remedy))
            return None
        with Path(path).open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        diagnostics.append(errors.cannot_read(file, "there is no such file", chain))
        return None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        diagnostics.append(errors.cannot_read(file, reason.lower(), chain))
        return None
    if len(content) > MAX_BYTES:
        diagnostics.append(errors.over_limit(Span(file, 1, 1, 1, 1), f"{MAX_BYTES // 1024} KiB", chain=chain))
        return None
    try:
        return clean(file, content.decode(), chain, diagnostics)
    except UnicodeDecodeError as error:
        place = _character(file, content[: error.start].decode())
        wide = content[:2] in {b"\xff\xfe", b"\xfe\xff"}
        diagnostics.append(errors.not_utf8(place, content[error.start], wide, chain))
        return None


def clean(file: str, text: str, chain: tuple[Span, ...], diagnostics: list[Diagnostic]) -> str | None:
    r"""Drop a byte order mark, end every line with ``\n``, refuse what is too large or no text."""
    if len(text) * 4 > MAX_BYTES and len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        diagnostics.append(errors.over_limit(Span(file, 1, 1, 1, 1), f"{MAX_BYTES // 1024} KiB", chain=chain))
        return None
    text = text.removeprefix("\ufeff")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    bad = _FORBIDDEN_ASCII.search(text) if text.isascii() else re.search(_FORBIDDEN, text)
    if bad is None:
        if spaces := _SPACES.search(text):
            diagnostics.append(errors.wide_space(_character(file, text[: spaces.start(1)]), spaces[1], chain))
            return None
        return text
    diagnostics.append(errors.forbidden_character(_character(file, text[: bad.start()]), bad[0], chain))
    return None


def _character(file: str, before: str) -> Span:
    """Return the place of the character that comes after ``before``."""
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Span(file, line, column, line, column + 1)


class Position(Protocol):
    """A position of a text, 0-based, as the YAML library gives it."""

    @property
    def index(self) -> int:
        """Characters before it."""

    @property
    def line(self) -> int:
        """Lines before it."""

    @property
    def column(self) -> int:
        """Characters before it on its line."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A position of a text, 0-based."""

    index: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text and where its first character stands."""

    file: str
    text: str
    chain: tuple[Span, ...] = ()
    line: int = 1
    column: int = 1
    added: tuple[tuple[int, int], ...] = ()
    """Line and column, 0-based, of characters that the file does not have; no span counts them."""

    def span(self, start: Position, end: Position) -> Span:
        """Return the span between two positions."""
        first, last = self._column(start), self._column(end)
        return Span(self.file, start.line + self.line, first, end.line + self.line, last)

    def _column(self, at: Position) -> int:
        before = sum(line == at.line and column < at.column for line, column in self.added)
        return at.column - before + (self.column if at.line == 0 else 1)

    def instead(self, text: str) -> Text:
        """Return a text of the same length in place of this one."""
        return replace(self, text=text)

    def replaced(self, index: int, character: str) -> Text:
        """Return the text with another character at an index."""
        return self.instead(self.text[:index] + character + self.text[index + 1 :])

    def added_at(self, index: int, character: str) -> Text:
        r"""Return the text with one more character, which moves no span.

        >>> Text("r.yaml", "a {b: 1}").added_at(1, ":").between(3, 4).column
        3
        """
        at = self.mark(index)
        added = [(line, column + (line == at.line and column >= at.column)) for line, column in self.added]
        return replace(
            self,
            text=self.text[:index] + character + self.text[index:],
            added=(*added, (at.line, at.column)),
        )

    def between(self, start: int, end: int) -> Span:
        r"""Return the span between two indices.

        >>> Text("r.yaml", "a: é\nb: x").between(8, 9)
        Span(file='r.yaml', line=2, column=4, end_line=2, end_column=5, label='')
        """
        return self.span(self.mark(start), self.mark(end))

    def mark(self, index: int, after: Position | None = None) -> Mark:
        """Return line and column of an index, counting from an earlier position where there is one."""
        known = after or Mark(0, 0, 0)
        lines = self.text.count("\n", known.index, index)
        column = index - self.text.rfind("\n", 0, index) - 1 if lines else known.column + index - known.index
        return Mark(index, known.line + lines, column)

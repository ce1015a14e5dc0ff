"""The vocabulary of complaint: spans of the user's text, coded diagnostics, and the table of codes.

A code belongs to one function in one place.
A *check* is a generator over a compiled recipe; a *fault* builds the one diagnostic of something that went wrong later
(a dataset row, a checkpoint, a reward function).
The docstring of either is the page that `recipec explain CODE` prints.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, ParamSpec

Severity = Literal["error", "warning"]
P = ParamSpec("P")

COMMAND_LINE = "<command line>"
PYTHON = "<python>"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one file, 1-based and end-exclusive; ``label`` says what this place contributes."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    label: str = ""

    def labelled(self, label: str) -> Span:
        """Return the same place with another label."""
        return replace(self, label=label)


@dataclass(frozen=True, slots=True)
class Fix:
    """A text edit that repairs the finding: replace ``span`` by ``text``."""

    message: str
    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check or fault found, before its code is attached; the first span is the primary one."""

    message: str
    spans: tuple[Span, ...] = ()
    why: str = ""
    help: str = ""
    path: str = ""
    fix: Fix | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A coded message about a span of the user's own text (or about a file and a row of it)."""

    code: str
    name: str
    severity: Severity
    message: str
    spans: tuple[Span, ...] = ()
    why: str = ""
    help: str = ""
    path: str = ""
    fix: Fix | None = None

    @property
    def is_error(self) -> bool:
        """Whether this diagnostic makes the recipe invalid."""
        return self.severity == "error"


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table of codes; ``page`` is the docstring of the function that owns the code."""

    code: str
    name: str
    severity: Severity
    page: str
    where: str


class RecipeError(Exception):
    """The recipe, its data or its run cannot go on; carries the diagnostics that say why."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        """Keep the diagnostics; the first one's message is the exception's text."""
        super().__init__(diagnostics[0].message if diagnostics else "refused")
        self.diagnostics = diagnostics


@dataclass(slots=True)
class _Table:
    rows: dict[str, Code] = field(default_factory=dict)

    def add(self, code: str, name: str, severity: Severity, function: Callable[..., object]) -> None:
        page = inspect.cleandoc(function.__doc__ or "")
        if not page:
            raise TypeError(f"{code} has no page: document {function.__qualname__}")
        if code in self.rows:
            raise TypeError(f"{code} is used twice: {self.rows[code].where} and {function.__qualname__}")
        self.rows[code] = Code(code, name, severity, page, f"{function.__module__}:{function.__qualname__}")


_TABLE = _Table()


def codes() -> dict[str, Code]:
    """Return the table of every code that the imported modules own, sorted."""
    return dict(sorted(_TABLE.rows.items()))


def _coded(code: str, name: str, severity: Severity, finding: Finding) -> Diagnostic:
    return Diagnostic(
        code, name, severity, finding.message, finding.spans, finding.why, finding.help, finding.path, finding.fix
    )


def check(
    code: str, name: str, severity: Severity = "error"
) -> Callable[[Callable[P, Iterator[Finding]]], Callable[P, Iterator[Diagnostic]]]:
    """Own ``code`` by a generator of findings; its docstring becomes the page."""

    def own(function: Callable[P, Iterator[Finding]]) -> Callable[P, Iterator[Diagnostic]]:
        _TABLE.add(code, name, severity, function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[Diagnostic]:
            for finding in function(*args, **kwargs):
                yield _coded(code, name, severity, finding)

        return run

    return own


def diagnostic(
    code: str, name: str, severity: Severity = "error"
) -> Callable[[Callable[P, Finding]], Callable[P, Diagnostic]]:
    """Own ``code`` by a function that builds its one finding; its docstring becomes the page."""

    def own(function: Callable[P, Finding]) -> Callable[P, Diagnostic]:
        _TABLE.add(code, name, severity, function)

        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> Diagnostic:
            return _coded(code, name, severity, function(*args, **kwargs))

        return build

    return own

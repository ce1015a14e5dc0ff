"""Diagnostics: spans of the user's text, coded messages about them, and the table of codes.

A code belongs to one function.  A *check* is a generator over a recipe that has been read; a *diagnostic* builds one
error that is found elsewhere (in a file, a dataset row, a checkpoint, a reward function).

The function returns what only it knows: the message, the place, the names and numbers of this recipe.  What is true of
every occurrence stands once, in its docstring.  The docstring is the page that `recipec explain CODE` prints, and its
sections are the `why:` and `help:` of each diagnostic that does not bring more specific ones.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Literal, NamedTuple, ParamSpec

from recipec.diagnostics.snippet import hidden

Severity = Literal["error", "warning"]
P = ParamSpec("P")

WHY, HELP = "Why it matters", "How to fix"
"""The sections of a page that a diagnostic shows."""
_SECTION = re.compile(rf"^(What it checks|{WHY}|Example|{HELP}|References):", re.MULTILINE)

COMMAND_LINE = "<command line>"
PYTHON = "<python>"


class Span(NamedTuple):
    """A stretch of one file, 1-based and end-exclusive; ``label`` says what this place contributes."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    label: str = ""

    def labelled(self, label: str) -> Span:
        """Return the same place with another label."""
        return self._replace(label=label)


def file_span(file: str, line: int = 0, column: int = 1) -> tuple[Span, ...]:
    """Return the place of a line in a file that is not part of the recipe; line 0 is the file as a whole."""
    return (Span(file, max(line, 1), column, max(line, 1), column + 1),) if file else ()


def dotted(path: tuple[str | int, ...]) -> str:
    """Write the path of a key as users do, and as :attr:`Diagnostic.path` has it.

    >>> dotted(("stages", "explore", "use", 0))
    'stages.explore.use.0'
    """
    return ".".join(map(str, path))


class Fix(NamedTuple):
    """A text edit that repairs the finding: replace ``span`` by ``text``; a line that it empties is dropped."""

    message: str
    span: Span
    text: str
    also: tuple[tuple[Span, str], ...] = ()
    """Further edits of the same file, without which it makes no sense."""

    @property
    def edits(self) -> tuple[tuple[Span, str], ...]:
        """All edits."""
        return ((self.span, self.text), *self.also)


class Proposal(NamedTuple):
    """An edit that the help of a finding proposes; it is compiled before the help is printed.

    Example: ``Proposal((("optimizer.max_grad_norm", "1.0"),), "…; here it is `optimizer.max_grad_norm`", "…")``.
    """

    edits: tuple[tuple[str, str], ...]
    """Dotted paths, from the stage on or from the top of the recipe, with values in JSON."""
    text: str
    """The words of the help that propose it."""
    refused: str
    """The words to put in their place where the edit is not accepted; the reason follows."""
    exact: bool = True
    """Whether these are the values to write; if not, only their places are proposed."""
    at: tuple[str | int, ...] = ()
    """Place of the key that it replaces."""


class Finding(NamedTuple):
    """What was found, before its code is attached; the first span is the primary one.

    ``why`` and ``help`` replace those of the page, where there is more to say than the page can know.
    """

    message: str
    spans: tuple[Span, ...] = ()
    why: str = ""
    help: str = ""
    path: str = ""
    fix: Fix | None = None
    proposal: Proposal | None = None


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
    proposal: Proposal | None = None

    @property
    def is_error(self) -> bool:
        """Whether this diagnostic makes the recipe invalid."""
        return self.severity == "error"


class RecipeError(Exception):
    """The recipe, its data or its run cannot go on; carries the diagnostics that say why."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        """Keep the diagnostics; the exception's text is the first one with its code, place and remedy."""
        super().__init__(_summary(diagnostics) if diagnostics else "refused")
        self.diagnostics = diagnostics


def _summary(diagnostics: tuple[Diagnostic, ...]) -> str:
    first, others = diagnostics[0], len(diagnostics) - 1
    place = f" ({first.spans[0].file}:{first.spans[0].line})" if first.spans else ""
    more = f", and {others} more" if others else ""
    return f"{first.code} {first.message}{place}{more}" + (f"; {first.help}" if first.help else "")


class Code(NamedTuple):
    """One row of the table of codes; ``doc`` is the docstring of the function that owns the code, as it is indented."""

    code: str
    name: str
    severity: Severity
    doc: str
    owner: str

    @property
    def page(self) -> str:
        """The docstring without its indentation."""
        return inspect.cleandoc(self.doc)

    def diagnostic(self, finding: Finding) -> Diagnostic:
        """Attach the code to a finding, and what the page says to all findings of the code; secrets are covered."""
        page = sections(self.page)
        return Diagnostic(
            self.code,
            self.name,
            self.severity,
            hidden(finding.message),
            finding.spans,
            finding.why or _one_line(page.get(WHY, "")),
            hidden(finding.help) or _one_line(page.get(HELP, "")),
            finding.path,
            finding.fix,
            finding.proposal,
        )


_CODES: dict[str, Code] = {}
_CHECKS: dict[str, list[Callable[..., Iterator[Diagnostic]]]] = {}


def checks_of(module: ModuleType) -> Sequence[Callable[..., Iterator[Diagnostic]]]:
    """Return the checks of a module, in their order."""
    return _CHECKS[module.__name__]


def codes() -> dict[str, Code]:
    """Return the table of every code that the imported modules own, sorted."""
    return dict(sorted(_CODES.items()))


def sections(page: str) -> dict[str, str]:
    """Split a page into its sections; the text before the first is under ``""``."""
    parts = _SECTION.split(page)
    return {"": parts[0].strip()} | {parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)}


def _one_line(section: str) -> str:
    return " ".join(section.split()).removesuffix(".")


def _register(code: str, name: str, severity: Severity, function: Callable[..., object]) -> Code:
    doc, owner = function.__doc__, f"{function.__module__}:{function.__qualname__}"
    if not doc:
        raise TypeError(f"{code} has no page: document {owner}")
    if code in _CODES:
        raise TypeError(f"{code} is used twice: {_CODES[code].owner} and {owner}")
    _CODES[code] = Code(code, name, severity, doc, owner)
    return _CODES[code]


def check(
    code: str, name: str, severity: Severity = "error"
) -> Callable[[Callable[P, Iterator[Finding]]], Callable[P, Iterator[Diagnostic]]]:
    """Own ``code`` by a generator of findings; its docstring becomes the page."""

    def own(function: Callable[P, Iterator[Finding]]) -> Callable[P, Iterator[Diagnostic]]:
        entry = _register(code, name, severity, function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Iterator[Diagnostic]:
            return map(entry.diagnostic, function(*args, **kwargs))

        _CHECKS.setdefault(function.__module__, []).append(run)
        return run

    return own


def diagnostic(
    code: str, name: str, severity: Severity = "error"
) -> Callable[[Callable[P, Finding]], Callable[P, Diagnostic]]:
    """Own ``code`` by a function that builds its one finding; its docstring becomes the page."""

    def own(function: Callable[P, Finding]) -> Callable[P, Diagnostic]:
        entry = _register(code, name, severity, function)

        @functools.wraps(function)
        def build(*args: P.args, **kwargs: P.kwargs) -> Diagnostic:
            return entry.diagnostic(function(*args, **kwargs))

        return build

    return own

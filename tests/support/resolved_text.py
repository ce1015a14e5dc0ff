"""Texts resolved, and what tests ask of the outcome."""

from recipec.diagnostics.model import Diagnostic, Span
from recipec.language.resolve import Resolved, resolve
from recipec.language.yaml_reader import read_source


def load(text: str, *overrides: str) -> Resolved:
    """Resolve a text."""
    return resolve(read_source("r.yaml", text), overrides)


def codes(resolved: Resolved) -> list[str]:
    """Return the codes found, in order."""
    return [diagnostic.code for diagnostic in resolved.diagnostics]


def only(resolved: Resolved, code: str) -> Diagnostic:
    """Return the one diagnostic, which has this code."""
    assert codes(resolved) == [code]
    return resolved.diagnostics[0]


def at(span: Span) -> tuple[str, int, int, int]:
    """Return file, line and columns."""
    return span.file, span.line, span.column, span.end_column

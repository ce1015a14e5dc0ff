"""Diagnostics as JSON values and back, for processes of one run that tell each other why they stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from recipec.diagnostics.model import Diagnostic, Fix, Span


def to_values(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Return diagnostics as mappings of JSON values."""
    return [asdict(one) for one in diagnostics]


def from_values(values: Iterable[Mapping[str, Any]]) -> list[Diagnostic]:
    """Undo :func:`to_values`.

    >>> found = Diagnostic("RC101", "x", "error", "a message", (Span("a.yaml", 1, 2, 1, 3),))
    >>> from_values(to_values([found])) == [found]
    True
    """
    return [_diagnostic(value) for value in values]


def _diagnostic(value: Mapping[str, Any]) -> Diagnostic:
    fix = value["fix"]
    edit = None if fix is None else _fix(fix)
    return Diagnostic(**{**value, "spans": tuple(Span(**span) for span in value["spans"]), "fix": edit})


def _fix(value: Mapping[str, Any]) -> Fix:
    also = tuple((Span(**span), text) for span, text in value.get("also", ()))
    return Fix(value["message"], Span(**value["span"]), value["text"], also)

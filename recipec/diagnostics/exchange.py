"""Diagnostics as JSON values and back, for processes of one run that tell each other why they stop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from recipec.diagnostics.model import Diagnostic, Fix, Proposal, Span


def to_values(diagnostics: Iterable[Diagnostic]) -> list[dict[str, Any]]:
    """Return diagnostics as mappings of JSON values; spans, fixes and proposals are lists there."""
    return [asdict(one) for one in diagnostics]


def from_values(values: Iterable[Mapping[str, Any]]) -> list[Diagnostic]:
    """Undo :func:`to_values`.

    >>> import json
    >>> place = Span("a.yaml", 1, 2, 1, 3)
    >>> edit = Fix("write b", place, "b", ((place, "c"),))
    >>> found = Diagnostic("RC101", "x", "error", "a message", (place,), fix=edit)
    >>> from_values(json.loads(json.dumps(to_values([found])))) == [found]
    True
    """
    return [_diagnostic(value) for value in values]


def _diagnostic(value: Mapping[str, Any]) -> Diagnostic:
    parts = {
        "spans": tuple(Span(*span) for span in value["spans"]),
        "fix": None if value["fix"] is None else _fix(*value["fix"]),
        "proposal": None if value["proposal"] is None else _proposal(*value["proposal"]),
    }
    return Diagnostic(**{**value, **parts})


def _fix(message: str, span: Sequence[Any], text: str, also: Sequence[Sequence[Any]]) -> Fix:
    return Fix(message, Span(*span), text, tuple((Span(*place), other) for place, other in also))


def _proposal(
    edits: Sequence[Sequence[str]], text: str, refused: str, exact: bool, at: Sequence[str | int]
) -> Proposal:
    return Proposal(tuple((path, value) for path, value in edits), text, refused, exact, tuple(at))

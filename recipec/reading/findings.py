"""What one reading gathers: diagnostics with their places and edits, and which section reads which key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import reading as errors
from recipec.diagnostics.model import COMMAND_LINE, PYTHON, Diagnostic, Fix, Span, dotted
from recipec.reading import field_descriptions

if TYPE_CHECKING:
    from recipec.language.resolve import Resolved

Path = tuple[str | int, ...]
_NOTHING = {"none", "null", "off", "no", "false", "disabled"}
"""Words that other tools write for what is left out here."""
_EVALUATION = 2
_LEVEL = 4  # length of the path of a named level: stages, STAGE, SLOT, NAME


@dataclass(slots=True)
class Findings:
    """What one reading gathers: diagnostics, and which section consumed which key."""

    resolved: Resolved
    fragment: bool
    found: list[Diagnostic] = field(default_factory=list)
    consumed: dict[str, str] = field(default_factory=dict)
    suggested: set[Path] = field(default_factory=set)
    """Places that a misspelt or foreign key was meant for: it has its diagnostic, and is not reported as missing."""

    moved: set[str] = field(default_factory=set)
    """Sections that an edit moves a key into: another one waits for the next reading."""

    unknown: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Note once which places have a wrong reference for a value."""
        self.unknown = frozenset(dotted(path) for path in self.resolved.unknown)

    @property
    def root(self) -> str:
        """The recipe's own file."""
        return self.resolved.files[0]

    def lacks(self, path: Path) -> bool:
        """Whether ``path`` is missing for no reason.

        Reasons are another key that was meant for it, a misspelt `extends` around it, and a file that was cut short.
        """
        if not self.resolved.complete or any(
            (*path[:depth], "extends") in self.suggested for depth in range(len(path))
        ):
            return False
        return not any(place[: len(path)] == path for place in self.suggested)

    def say(self, diagnostic: Diagnostic) -> None:
        """Note a diagnostic, but for one of a value that is not known because its reference is wrong."""
        if diagnostic.path not in self.unknown:
            self.found.append(diagnostic)

    def kind_at(self, path: Path) -> str:
        """Return the kind of the stage that ``path`` is in, or an empty text."""
        data: Any = self.resolved.data
        stage = (data.get("stages") or {}).get(path[1]) if path[:1] == ("stages",) and len(path) > 1 else data
        kind = stage.get("kind") if isinstance(stage, dict) else None
        return kind if isinstance(kind, str) else ""

    def spans(self, path: Path, *, key: bool = False) -> tuple[Span, ...]:
        """Return where ``path`` stands, and what led there."""
        return self.resolved.spans(path, key=key)

    def lacking(self, path: Path) -> tuple[Span, ...]:
        """Return where a key that the section at ``path`` lacks is to be written: in the recipe's own file.

        Where the whole section comes from a file under `extends`, that is what is around it.
        """
        spans, home = self.spans(path, key=True), path
        while home and self.resolved.span(home, key=True).file in self.resolved.files[1:]:
            home = home[:-1]
        return tuple(dict.fromkeys((self.resolved.span(home, key=True), *spans))) if home else spans

    def consume(self, data: Any, path: Path, owner: str) -> None:
        """Record ``owner`` as the reader of everything at and below ``path``."""
        self.consumed[dotted(path)] = owner
        if isinstance(data, Mapping):
            for key, value in data.items():
                self.consume(value, (*path, key), owner)

    def mapping(self, data: Any, path: Path, where: str, known: Sequence[str] = ()) -> dict[str, Any] | None:
        """Return ``data`` if it is a mapping; otherwise say that it should be."""
        if isinstance(data, dict):
            return data
        from recipec.language.repairs import missing_colon  # noqa: PLC0415
        from recipec.reading.component_suggestions import for_bare, slot_of  # noqa: PLC0415
        from recipec.reading.foreign.advice import for_name  # noqa: PLC0415 - only mistakes need advice
        from recipec.reading.lists import for_data, for_equals  # noqa: PLC0415
        from recipec.reading.value_suggestions import for_reference  # noqa: PLC0415

        advice, fix = "", None
        key = str(path[-1]) if path else ""
        if isinstance(data, str) and (written := for_reference(key, data))[0]:
            advice, fix = written[0], self.fix(path, f"write {written[1]}", data, written[1]) if written[1] else None
        elif data is False or (isinstance(data, str) and data.lower() in _NOTHING and data not in known):
            advice = f"leave `{key}` out; `{key}: null` removes what a file under `extends` gives"
        elif isinstance(data, str) and (several := for_equals(key, data)):
            advice = several
        elif isinstance(data, str) and (line := missing_colon(data)) is not None and slot_of(path) != "data":
            advice = f"{line[1]}: write `{line[2]}` in a line of its own below `{key}`"
        elif isinstance(data, str) and known:
            advice, right = for_bare(key, data, slot_of(path), known)
            fix = self.fix(path, f"give the component as `{right}`", data, right) if right else None
        if path and isinstance(data, list | int | float):
            advice = for_data(key, data, slot_of(path), known, self.kind_at(path)) or advice
        if isinstance(data, int | float) and len(path) == _LEVEL:
            advice = f"a level is a component with a weight: `{path[3]}: {{type: …, weight: {data}}}`"
        evaluation = path[:1] == ("evaluate",) and len(path) == _EVALUATION
        if len(path) == _LEVEL or evaluation:
            head = () if evaluation else (str(path[2]),)
            elsewhere = for_name(head, (str(path[-1]),), data, self.kind_at(path))
            advice, fix = (elsewhere.text, None) if elsewhere is not None else (advice, fix)
        self.say(
            errors.not_a_mapping(
                where, field_descriptions.format_value(data), dotted(path), self.spans(path), advice, fix
            )
        )
        return None

    def renamed(self, path: Path, name: str) -> Fix | None:
        """Offer to write the key at ``path`` as ``name``, unless its file has that key, too."""
        other = self.resolved.graph.follow((*path[:-1], name)).node
        present = other is not None and other.span.file == self.resolved.span(path).file
        return None if present else self.fix(path, f"rename it to `{name}`", path[-1], name, key=True)

    def fix(self, path: Path, message: str, old: object, text: str, *, key: bool = False) -> Fix | None:
        """Offer an edit, but only where the file itself holds ``old`` (not a variable, include or command line)."""
        span = self.resolved.span(path, key=key)
        if span.file in {COMMAND_LINE, PYTHON} or span.line != span.end_line or span.file not in self.resolved.files:
            return None
        lines = self.resolved.text(span.file).split("\n")
        written = lines[span.line - 1][span.column - 1 : span.end_column - 1] if span.line <= len(lines) else ""
        if written.strip("\"'") != (old if isinstance(old, str) else json.dumps(old)):
            return None
        return Fix(message, span, text)

"""One mapping of the recipe against the section that reads it: every mistake in place, none hiding another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from recipec.component import Component, Section, is_origin, is_path, is_signal, names_file
from recipec.diagnostics.errors import reading as errors
from recipec.diagnostics.model import COMMAND_LINE, PYTHON, Diagnostic, Fix, Span
from recipec.reading import field_descriptions, paths
from recipec.reading.foreign.advice import for_name, of_recipe
from recipec.reading.lists import for_data
from recipec.reading.moves import move
from recipec.reading.never_supported import refused
from recipec.reading.suggestions import for_bare, for_key, for_signal, joined, slot_of
from recipec.reading.value_suggestions import for_value
from recipec.signals import find_signal

if TYPE_CHECKING:
    from recipec.language.resolve import Resolved

Path = tuple[str | int, ...]
S = TypeVar("S", bound=Section)
_LEVEL = 4  # length of the path of a named level: stages, STAGE, SLOT, NAME
LARGEST = 2**63
"""Counts and seeds are 64-bit integers wherever they arrive."""


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
        """Whether ``path`` is missing for no reason: neither was another key meant for it, nor was a file cut short."""
        return self.resolved.complete and not any(place[: len(path)] == path for place in self.suggested)

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
        advice, fix = "", None
        if isinstance(data, str) and known:
            advice, right = for_bare(str(path[-1]), data, slot_of(path), known)
            fix = self.fix(path, f"give the component as `{right}`", data, right) if right else None
        if path and isinstance(data, list | int | float):
            advice = for_data(str(path[-1]), data, slot_of(path), known, self.kind_at(path))
        if isinstance(data, int | float) and len(path) == _LEVEL:
            advice = f"a level is a component with a weight: `{path[3]}: {{type: …, weight: {data}}}`"
        if len(path) == _LEVEL:
            elsewhere = for_name((str(path[2]),), (str(path[3]),), data, self.kind_at(path))
            advice, fix = (elsewhere.text, None) if elsewhere is not None else (advice, fix)
        self.say(
            errors.not_a_mapping(
                where, field_descriptions.format_value(data), dotted(path), self.spans(path), advice, fix
            )
        )
        return None

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


def dotted(path: Path) -> str:
    """Write a path as the command line does."""
    return ".".join(map(str, path))


def read_section(
    findings: Findings, cls: type[S], data: Mapping[str, Any], path: Path, where: str, keys: Sequence[str] = ()
) -> tuple[S | None, set[str]]:
    """Validate ``data`` against ``cls`` and say what is wrong.

    Returns:
        The section, or ``None``; and the keys of ``data`` at or below which something was wrong.
    """
    extreme = dict(_extreme(data))
    for place, value in extreme.items():
        expected = "finite" if isinstance(value, float) else "less than 2^63 in size"
        at = (*path, *place)
        findings.say(
            errors.bad_value(
                _called(place), field_descriptions.format_value(value), expected, dotted(at), findings.spans(at)
            )
        )
    made: S | None = None
    problems = list(extreme)
    try:
        text = json.dumps(_rebased(findings, cls, data, path))
        made = cls.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        for place, detail in sorted(_collapsed(error, data).items(), key=lambda item: item[1]["type"] == "missing"):
            if not any(place[:length] in extreme for length in range(len(place) + 1)):
                problems.append(place)
                _say(findings, cls, data, path, where, place, detail, keys)
    made = None if problems or _signals(findings, cls, data, path) else made
    return made, {str(place[0]) for place in problems if place}


def read_plain(
    findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path, where: str, leave: tuple[str, ...]
) -> dict[str, Any]:
    """Validate the fields of a section that are no components; what is wrong or absent has its default or ``None``.

    Returns:
        Values by the names that Python has for them.
    """
    part = _plain_part(cls, leave)
    names = {info.alias or name for name, info in part.model_fields.items()}
    given = {key: value for key, value in data.items() if key in names}
    made, bad = read_section(findings, part, given, path, where)
    if made is None:
        good = {key: value for key, value in _rebased(findings, part, given, path).items() if key not in bad}
        made = part.model_validate_json(json.dumps(good), strict=True, by_alias=True, by_name=False)
    return {name: getattr(made, name) for name in part.model_fields}


def _signals(findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path) -> bool:
    """Say which parameters name a signal that is not in the vocabulary."""
    before = len(findings.found)
    for name, info in cls.model_fields.items():
        key = info.alias or name
        value = data.get(key)
        if is_signal(info) and isinstance(value, str) and find_signal(value) is None:
            at = (*path, key)
            help_, best = for_signal(value, info.default, findings.resolved.data.get("stages") or ())
            fix = findings.fix(at, f"name `{best}`", value, best) if best else None
            findings.say(errors.unknown_signal(value, key, dotted(at), findings.spans(at), help_, fix))
    return len(findings.found) > before


@cache
def _plain_part(cls: type[Section], leave: tuple[str, ...]) -> type[Section]:
    """Make the section without some fields, and with nothing required: they are checked elsewhere."""
    fields: dict[str, Any] = {}
    for name, info in cls.model_fields.items():
        if name not in leave:
            fields[name] = (info.annotation, _optional(info))
    return create_model(cls.__name__, __base__=Section, **fields)


def _optional(info: FieldInfo) -> FieldInfo:
    """Copy a field; one that must be given becomes one that may be."""
    copied = copy(info)
    if copied.is_required():
        copied.default = None
    return copied


def unknown_key(
    findings: Findings, key: str, value: Any, path: Path, where: str, keys: Sequence[str], given: Mapping[str, Any]
) -> None:
    """Say that nothing here reads ``key``, and what may have been meant; RC650 speaks of what is never read."""
    if refused(key, value):
        return
    at = (*path, key)
    found = for_key(key, value, path, keys, given, findings.kind_at(path))
    stage: Path = path[:2] if path[:1] == ("stages",) else ()
    for words in found.meant:
        around = () if of_recipe(str(words[0])) and len(words) > 1 else stage
        findings.suggested.update({(*path, *words), (*around, *words)})
    best = found.best
    fix = findings.fix(at, f"rename it to `{best}`", key, best, key=True) if best else None
    if fix is None and found.into and not of_recipe(found.into[0]) and found.into[0] not in findings.moved:
        fix = move(findings.resolved, at, given, found.into, found.value)
        findings.moved.add(found.into[0])
    proposal = None
    if found.proposal is not None:
        top = f"{dotted(stage)}." if stage else ""
        edits = tuple((to if of_recipe(to) else top + to, value) for to, value in found.proposal.edits)
        proposal = replace(found.proposal, edits=edits, at=at)
    spans = findings.spans(at, key=True)
    findings.say(errors.unknown_key(key, where, dotted(at), spans, keys, found.text, fix, proposal))


def _say(
    findings: Findings,
    cls: type[Section],
    data: Mapping[str, Any],
    path: Path,
    where: str,
    place: Path,
    detail: ErrorDetails,
    keys: Sequence[str],
) -> None:
    """Turn one error of the validator into a diagnostic."""
    at, kind = (*path, *place), detail["type"]
    if kind == "extra_forbidden":
        owner, inside = _owner(cls, place)
        around = _get(data, place[:-1])
        known = keys or field_descriptions.keys_of(owner)
        whose = f"`{_called(inside)}` of {where}" if inside else where
        unknown_key(findings, str(place[-1]), _get(data, place), at[:-1], whose, known, around)
    elif kind == "missing" and isinstance(place[-1], str):
        if not findings.fragment and findings.lacks(at):
            owner, inside = _owner(cls, place)
            whose = f"`{_called(inside)}` of {where}" if inside else where
            spans = findings.spans(at[:-1], key=True)
            about = field_descriptions.about(owner, str(place[-1]))
            findings.say(errors.missing_key(str(place[-1]), whose, dotted(at), spans, about))
    elif kind in {"value_error", "assertion_error"}:
        if not findings.fragment:  # what a fragment leaves out, the recipe that extends it may say
            message = str(detail.get("ctx", {}).get("error", ""))
            spans = findings.spans(at, key=True) if at else ()
            findings.say(errors.keys_disagree(where, message, dotted(at), spans))
    else:
        _say_value(findings, cls, data, path, place)


def _say_value(findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path, place: Path) -> None:
    at, value = (*path, *place), _get(data, place)
    takes = field_descriptions.field_type(cls, place)
    expected = takes.describe() if takes else "something else"
    advice, text = for_value(str(place[-1]), value, takes.annotation if takes else Any, takes.metadata if takes else ())
    fix = findings.fix(at, f"write {text}", value, text) if text else None
    param = next((part for part in reversed(place) if isinstance(part, str)), "")
    doc = f"`{param}`: {takes.doc}" if takes and takes.doc else ""
    help_ = joined(advice, doc)
    findings.say(
        errors.bad_value(
            _called(place), field_descriptions.format_value(value), expected, dotted(at), findings.spans(at), help_, fix
        )
    )


def _owner(cls: type[Section], place: Path) -> tuple[type[Section], Path]:
    """Find the nested section that ``place`` belongs to, and its own place."""
    for index, part in enumerate(place[:-1]):
        info = field_descriptions.field_of(cls, part)
        inner = field_descriptions.section_of(info.annotation) if info else None
        if inner is None and info is not None and index + 1 < len(place) - 1:
            inner = _item_section(info.annotation)
            if inner is not None:
                owner, deeper = _owner(inner, place[index + 2 :])
                return owner, (*place[: index + 2], *deeper)
        if inner is None:
            return cls, place[:index]
        owner, deeper = _owner(inner, place[index + 1 :])
        return owner, (*place[: index + 1], *deeper)
    return cls, ()


def _item_section(annotation: Any) -> type[Section] | None:
    """Find the section that a mapping of names holds."""
    inner = field_descriptions.inside(annotation, "")
    return field_descriptions.section_of(inner) if inner is not None else None


def _called(place: Path) -> str:
    """Write a place below a section: ``lora.targets[1]``."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _get(data: Any, place: Path) -> Any:
    for part in place:
        data = data[part]
    return data


def _extreme(data: Any, place: Path = ()) -> Iterator[tuple[Path, int | float]]:
    """Find numbers that are not finite, or too large to count with."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _extreme(value, (*place, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _extreme(value, (*place, index))
    elif (isinstance(data, float) and not math.isfinite(data)) or (
        isinstance(data, int) and not -LARGEST <= data < LARGEST
    ):
        yield place, data


def _collapsed(error: ValidationError, data: Mapping[str, Any]) -> dict[Path, ErrorDetails]:
    """Bring errors to places of the file; of a choice of types, keep the one that came furthest."""
    found: dict[Path, ErrorDetails] = {}
    choices: dict[Path, list[tuple[Path, ErrorDetails]]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        place, choice = _placed(detail, data)
        short = detail["type"] == "missing" and isinstance(place[-1], int)  # a list, not a key
        one: tuple[Path, ErrorDetails] = (place[:-1], {**detail, "type": "too_short"}) if short else (place, detail)
        if choice is None:
            found.setdefault(*one)
        else:
            choices.setdefault(choice, []).append(one)
    for choice, tried in choices.items():
        place, detail = max(tried, key=lambda one: len(one[0]))
        found.setdefault(place if len(place) > len(choice) else choice, detail)
    return found


def _has(data: Any, part: int | str) -> bool:
    return part in (data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ())


def _placed(detail: ErrorDetails, data: Any) -> tuple[Path, Path | None]:
    """Follow an error's location through the data, leaving out the names of the types that were tried."""
    place: Path = ()
    choice: Path | None = None
    for index, part in enumerate(detail["loc"]):
        if _has(data, part):
            data = data[part]
            place = (*place, part)
        elif detail["type"] == "missing" and index + 1 == len(detail["loc"]):
            place = (*place, part)
        else:
            choice = place if choice is None else choice
    return place, choice


def _rebased(findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Make the file names of a section relative to the recipe's own directory, and leave out what is null."""
    moved = dict(data)
    for name, info in cls.model_fields.items():
        key = info.alias or name
        value, at = moved.get(key), (*path, key)
        if key in moved and value is None:  # null is absent
            del moved[key]
        inner = field_descriptions.section_of(info.annotation)
        if isinstance(value, str) and names_file(info, value):
            moved[key] = paths.rebased(value, findings.resolved.file(at), findings.root)
        elif isinstance(value, list) and is_path(info):
            several = ((item, findings.resolved.file((*at, place))) for place, item in enumerate(value))
            moved[key] = [
                paths.rebased(item, file, findings.root) if isinstance(item, str) else item for item, file in several
            ]
        elif isinstance(value, str) and is_origin(info):
            moved[key] = paths.origin(value, findings.resolved.file(at), findings.root)
        elif inner is not None and not issubclass(inner, Component) and isinstance(value, dict):
            moved[key] = _rebased(findings, inner, value, at)
        elif (named := field_descriptions.named_sections(info.annotation)) is not None and isinstance(value, dict):
            moved[key] = {
                name: _rebased(findings, named, item, (*at, name)) if isinstance(item, dict) else item
                for name, item in value.items()
            }
    return moved

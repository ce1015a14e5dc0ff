"""One mapping of the recipe against the section that reads it: every mistake in place, none hiding another."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any, TypeVar

from pydantic import ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from recipec.component import Component, Section, is_origin, is_path, is_signal, names_file
from recipec.diagnostics.errors import reading as errors
from recipec.diagnostics.model import Fix, Proposal, dotted
from recipec.language.scalars import read_scalar
from recipec.reading import field_descriptions, paths
from recipec.reading.findings import Findings, Path
from recipec.reading.moves import move
from recipec.reading.never_supported import refused
from recipec.signals import find_signal

S = TypeVar("S", bound=Section)
LARGEST = 2**63
"""Counts and seeds are 64-bit integers wherever they arrive."""


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
    spec: S | None = None
    problems = list(extreme)
    try:
        text = json.dumps(_rebased(findings, cls, data, path))
        spec = cls.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        for place, detail in sorted(_collapsed(error, data).items(), key=lambda item: item[1]["type"] == "missing"):
            if not any(place[:length] in extreme for length in range(len(place) + 1)):
                problems.append(place)
                _say(findings, cls, data, path, where, place, detail, keys)
    spec = None if problems or _signals(findings, cls, data, path) else spec
    return spec, {str(place[0]) for place in problems if place}


def read_plain(
    findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path, where: str, leave: tuple[str, ...]
) -> dict[str, Any]:
    """Validate the fields of a section that are no components; what is wrong or absent has its default or ``None``.

    Returns:
        Values by the names that Python has for them.
    """
    part = _plain_part(cls, leave)
    names = {info.alias or name for name, info in part.model_fields.items()}
    own = {key: value for key, value in data.items() if key in names}
    spec, bad = read_section(findings, part, own, path, where)
    if spec is None:
        good = {key: value for key, value in _rebased(findings, part, own, path).items() if key not in bad}
        spec = part.model_validate_json(json.dumps(good), strict=True, by_alias=True, by_name=False)
    return {name: getattr(spec, name) for name in part.model_fields}


def _signals(findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path) -> bool:
    """Say which parameters name a signal that is not in the vocabulary."""
    before = len(findings.found)
    for name, info in cls.model_fields.items():
        key = info.alias or name
        value = data.get(key)
        if is_signal(info) and isinstance(value, str) and find_signal(value) is None:
            from recipec.reading.component_suggestions import for_signal  # noqa: PLC0415 - only mistakes need advice

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
    findings: Findings, key: str, value: Any, path: Path, where: str, keys: Sequence[str], section: Mapping[str, Any]
) -> None:
    """Say that nothing here reads ``key``, and what may have been meant; RC650 speaks of what is never read."""
    from recipec.reading.foreign.advice import of_recipe  # noqa: PLC0415 - only mistakes need advice
    from recipec.reading.suggestions import for_key  # noqa: PLC0415

    if refused(key, value) or not isinstance(read_scalar(key)[0], str):  # RC109 speaks of one that is not text
        return
    at = (*path, key)
    advice = for_key(key, value, path, keys, section, findings.kind_at(path))
    stage: Path = path[:2] if path[:1] == ("stages",) else ()
    for words in advice.meant:
        around = () if of_recipe(str(words[0])) and len(words) > 1 else stage
        findings.suggested.update({(*path, *words), (*around, *words)})
    fix = findings.renamed(at, advice.best) if advice.best else None
    if fix is None and advice.into and not of_recipe(advice.into[0]) and advice.into[0] not in findings.moved:
        fix = move(findings.resolved, at, section, advice.into, advice.value)
        findings.moved.add(advice.into[0])
    proposal, text = None, advice.text
    if advice.proposal is not None and not path and not all(of_recipe(to) for to, _ in advice.proposal.edits):
        text += " of a stage"
    elif advice.proposal is not None:
        top = f"{dotted(path[:2])}." if path[:1] in {("stages",), ("evaluate",)} else ""
        edits = tuple((to if of_recipe(to) else top + to, value) for to, value in advice.proposal.edits)
        proposal = advice.proposal._replace(edits=edits, at=at)
        fix = fix or _in_place(findings, at, value, proposal)
    spans = findings.spans(at, key=True)
    findings.say(errors.unknown_key(key, where, dotted(at), spans, keys, text, fix, proposal))


def _in_place(findings: Findings, at: Path, value: Any, proposal: Proposal) -> Fix | None:
    """Offer the edit that a proposal is, where it only gives a key of this section its name here, or its value."""
    (to, text), *others = proposal.edits
    home, _, name = to.rpartition(".")
    if others or not proposal.exact or home != dotted(at[:-1]):
        return None
    renamed, new = findings.renamed(at, name), json.loads(text)
    if renamed is None or (type(new) is type(value) and new == value):
        return renamed
    written = findings.fix(at, f"write {text}", value, text)
    return None if written is None else renamed._replace(also=(*renamed.also, (written.span, text)))


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
            spans = findings.lacking(at[:-1])
            about = field_descriptions.about(owner, str(place[-1]))
            findings.say(errors.missing_key(str(place[-1]), whose, dotted(at), spans, about))
    elif kind in {"value_error", "assertion_error"}:
        if not findings.fragment and findings.resolved.complete:  # what is left out may be in another file, or unread
            error = detail.get("ctx", {}).get("error", "")
            notes = getattr(error, "__notes__", ())
            spans = findings.spans(at, key=isinstance(_get(data, place), Mapping)) if at else ()
            findings.say(errors.keys_disagree(where, str(error), dotted(at), spans, "; ".join(notes)))
    else:
        _say_value(findings, cls, data, path, place)


def _say_value(findings: Findings, cls: type[Section], data: Mapping[str, Any], path: Path, place: Path) -> None:
    from recipec.reading.component_suggestions import joined  # noqa: PLC0415 - only mistakes need advice
    from recipec.reading.value_suggestions import for_value  # noqa: PLC0415

    at, value = (*path, *place), _get(data, place)
    takes = field_descriptions.field_type(cls, place)
    expected = takes.describe() if takes else "something else"
    annotation, metadata = (takes.annotation, takes.metadata) if takes else (Any, ())
    known = field_descriptions.keys_of(_owner(cls, place)[0])
    advice, text = for_value(str(place[-1]), value, annotation, metadata, path=dotted(at), keys=known)
    fix = findings.fix(at, f"write {text}", value, text) if text else None
    param = next((part for part in reversed(place) if isinstance(part, str)), "")
    doc = f"`{param}`: {takes.doc}{'' if advice else _default(cls, place)}" if takes and takes.doc else ""
    help_ = joined(advice, doc)
    findings.say(
        errors.bad_value(
            _called(place), field_descriptions.format_value(value), expected, dotted(at), findings.spans(at), help_, fix
        )
    )


def _default(cls: type[Section], place: Path) -> str:
    """Say, as a further sentence, what a parameter is where a recipe does not give it."""
    info = field_descriptions.field_of(cls, place[0]) if len(place) == 1 else None
    default = info.default if info is not None else None
    if isinstance(default, tuple) and default:
        return f" The default is `[{', '.join(map(str, default))}]`."
    return f" The default is {default:g}." if isinstance(default, float) else ""


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
    by_place: dict[Path, ErrorDetails] = {}
    choices: dict[Path, list[tuple[Path, ErrorDetails]]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        place, choice = _placed(detail, data)
        short = detail["type"] == "missing" and isinstance(place[-1], int)  # a list, not a key
        one: tuple[Path, ErrorDetails] = (place[:-1], {**detail, "type": "too_short"}) if short else (place, detail)
        if choice is None:
            by_place.setdefault(*one)
        else:
            choices.setdefault(choice, []).append(one)
    for choice, tried in choices.items():
        place, detail = max(tried, key=lambda one: len(one[0]))
        by_place.setdefault(place if len(place) > len(choice) else choice, detail)
    return by_place


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

"""Read one stage: its slots by the table of slots, its budget by the unit of its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from recipec.component import Component, component_names, components_of, find_component, installed_components
from recipec.diagnostics.errors import reading as errors
from recipec.diagnostics.model import dotted
from recipec.diagnostics.phrases import distance, folded
from recipec.reading import field_descriptions
from recipec.reading.findings import Findings
from recipec.reading.partial import Part, Path, StageReading
from recipec.reading.section import read_plain, read_section, unknown_key
from recipec.spec.recipe import (
    SLOT,
    SLOTS,
    STAGE_NAME,
    UNIT,
    Budget,
    Evaluation,
    Kind,
    Levels,
    Slot,
    Stage,
    default_type,
    left_out,
)  # fmt: skip

KINDS: tuple[Kind, ...] = get_args(Kind)
_LENGTHS = ("steps", "epochs")
_CUTS = ("updates_per_step", "prompts_per_update", "rows_per_update")


def read_stage(
    findings: Findings, name: str, data: Any, path: Path, earlier: Sequence[str], more: Sequence[str]
) -> StageReading:
    """Read the stage at ``path``; ``more`` are keys of it that are read elsewhere."""
    where = f"stage `{name}`" if name else "the fragment"
    section = findings.mapping(data, path, where)
    owner = name or "stage"
    if section is None:
        findings.consume(data, path, owner)
        return StageReading(name, path, None, None, None, None, {}, ())
    keys = [*field_descriptions.keys_of(Stage), *more]
    findings.consumed[dotted(path)] = owner
    offered = [key for key in (*keys, "extends") if _has_place(key, findings.kind_at(path))]
    for key, value in section.items():
        if key not in keys:
            findings.consume(value, (*path, key), owner)
            unknown_key(findings, key, value, path, where, offered, section)
    section = {key: value for key, value in section.items() if value is not None and key in keys and key not in more}
    plain = read_plain(findings, Stage, section, path, where, ("budget", "allow", *Levels.model_fields, *SLOT))
    for key in ("kind", "from", "adapter"):
        if key in section:
            findings.consume(section[key], (*path, key), owner)
    if not findings.fragment:
        _need(findings, section, path, name, earlier)
    kind: Kind | None = plain["kind"]
    levels = _levels(findings, section, (*path, "advantage"), f"{owner}/advantage")
    parts = [part for slot in SLOTS for part in _slot(findings, section, path, slot, kind, owner)]
    allow = _allow(findings, section.get("allow"), (*path, "allow"), owner)
    budget = _budget(findings, section.get("budget"), (*path, "budget"), kind, owner)
    return StageReading(name, path, kind, plain["from_"], plain["adapter"], budget, allow, tuple(parts), levels)


def _has_place(key: str, kind: str) -> bool:
    """Whether a stage of a kind may have a key; one of no known kind may have any."""
    return key not in SLOT or kind not in KINDS or SLOT[key].in_kind(kind) != "no"


def _levels(findings: Findings, section: dict[str, Any], path: Path, owner: str) -> Levels:
    """Read how levels of advantage become one credit, and leave the levels alone in ``section``."""
    levels = section.get("advantage")
    if not isinstance(levels, dict):
        return Levels()
    parameters = {key: value for key, value in levels.items() if key in Levels.model_fields}
    section["advantage"] = {name: level for name, level in levels.items() if name not in parameters}
    for key, value in parameters.items():
        findings.consume(value, (*path, key), owner)
    return Levels(**read_plain(findings, Levels, parameters, path, "`advantage`", ()))


def _need(findings: Findings, section: Mapping[str, Any], path: Path, name: str, earlier: Sequence[str]) -> None:
    """Say which of the keys that every stage must have are missing."""
    spans = findings.spans(path, key=True)
    if len(section) > 1 and "data" in section and set(section) <= {*field_descriptions.keys_of(Evaluation)}:
        about = "an evaluation, which has no kind, belongs under `evaluate:` at the top of the recipe"
        findings.say(errors.missing_key("kind", f"stage `{name}`", dotted(path), spans, about))
        return
    if "kind" not in section and findings.lacks((*path, "kind")):
        about = field_descriptions.about(Stage, "kind")
        findings.say(errors.missing_key("kind", f"stage `{name}`", dotted(path), spans, about))
    if "from" not in section and findings.lacks((*path, "from")):
        findings.say(errors.no_origin(name, dotted(path), spans, earlier))
    if "budget" not in section and findings.lacks((*path, "budget")):
        about = "how much of it, as `{steps: 100, …}`"
        findings.say(errors.missing_key("budget", f"stage `{name}`", dotted(path), spans, about))


def _slot(
    findings: Findings, section: Mapping[str, Any], path: Path, slot: Slot, kind: Kind | None, owner: str
) -> list[Part]:
    """Read one slot of a stage, or stand in for one that is not named."""
    at, data = (*path, slot.name), section.get(slot.name)
    node = f"{owner}/{slot.name}"
    if slot.levels and isinstance(data, dict) and not any(level is not None for level in data.values()):
        findings.consume(data, at, node)
        data = None  # no levels are as good as none
    if kind is not None and data is not None and slot.in_kind(kind) == "no":
        findings.consume(data, at, node)
        kinds = [other for other in KINDS if slot.in_kind(other) != "no"]
        findings.say(errors.slot_not_in_kind(slot.name, kind, dotted(at), findings.spans(at, key=True), kinds))
        return []
    if slot.levels and data is not None:
        return read_levels(findings, data, at, slot.name, node)
    if data is not None:
        default = default_type(slot.name, kind) if kind else slot.default or None
        return [read_part(findings, data, at, slot.name, default, node)]
    if kind is None or findings.fragment:
        return []
    if slot.in_kind(kind) == "yes" and not _unread(slot.name, section):
        if findings.lacks(at):
            spans = findings.spans(path, key=True)
            names = component_names(slot.name)
            findings.say(errors.slot_missing(slot.name, kind, dotted(at), spans, names, levels=slot.levels))
        return [Part(at, slot.name, "", "", None, None, given=False)]
    cls = left_out(kind, {}).get(slot.name)
    if slot.name == "attention" or (slot.name == "reference" and slot.in_kind(kind) != "no" and kind != "sft"):
        cls = find_component(slot.name, slot.default)
    return [Part(at, slot.name, "", cls.type_name, cls, cls(), given=False)] if cls else []


_READERS = {"advantage": ("loss", "advantage_RT"), "reward": ("advantage", "value_R")}
"""Slots that others read, and by which of their columns: distillation has neither rewards nor credit."""


def _unread(slot: str, section: Mapping[str, Any]) -> bool:
    """Whether what reads a slot is there and has no use for it."""
    reader, column = _READERS.get(slot, ("", ""))
    if not reader:
        return False
    reading = section.get(reader)
    if reading is None:
        return _unread(reader, section)
    written = [reading] if reader == "loss" else list(reading.values()) if isinstance(reading, Mapping) else [None]
    names = [part.get("type") if isinstance(part, Mapping) else None for part in written if not isinstance(part, str)]
    classes = [find_component(reader, name) if isinstance(name, str) else None for name in names]
    return bool(classes) and all(cls is not None and column not in cls.parameters() for cls in classes)


def read_levels(findings: Findings, data: Any, path: Path, slot: str, owner: str) -> list[Part]:
    """Read the named levels of a slot."""
    names = () if isinstance(data, dict) else component_names(slot)
    section = findings.mapping(data, path, f"`{slot}`, which holds named levels,", names)
    if section is None:
        findings.consume(data, path, owner)
        return [Part(path, slot, "", "", None, None)]
    findings.consumed[dotted(path)] = owner
    if "type" in section and not isinstance(section["type"], dict):
        name = section["type"] if isinstance(section["type"], str) else ""
        findings.consume(data, path, owner)
        written = f"{{type: {name or '…'}, …}}"
        findings.say(
            errors.unnamed(slot, "levels", f"`{name or 'component'}`", written, dotted(path), findings.spans(path))
        )
        return [Part(path, slot, "", name, components_of(slot).get(name), None)]
    parts = []
    for level, value in section.items():
        if value is not None:
            check_name(findings, level, (*path, level), f"a level of `{slot}`")
            parts.append(read_part(findings, value, (*path, level), slot, "", f"{owner}.{level}", level=level))
    return parts


def read_part(
    findings: Findings,
    data: Any,
    path: Path,
    slot: str,
    default: str | None,
    owner: str,
    *,
    level: str = "",
) -> Part:
    """Read one component.

    ``default`` is the component of a mapping without ``type``; ``""``: it must be given; ``None``: not known yet.
    """
    findings.consume(data, path, owner)
    called = f"{slot} level `{level}`" if level else f"`{path[-1]}`"
    names = () if isinstance(data, dict) else component_names(slot)
    section = findings.mapping(data, path, called, names)
    if section is None:
        bare = data if isinstance(data, str) and data in names else ""
        return Part(path, slot, level, bare, components_of(slot).get(bare), None)
    section = _with_type(findings, section, path, called, slot)
    name = _type(findings, section, path, slot, default, called)
    if name is None:
        return Part(path, slot, level, "", None, None)
    at = (*path, "type")
    cls = _found(findings, slot, name, at)
    if cls is None:
        if findings.lacks(at):
            from recipec.reading.component_suggestions import for_component  # noqa: PLC0415 - only mistakes need advice
            from recipec.reading.foreign.values import foreign_component  # noqa: PLC0415

            names = component_names(slot)
            advice, best = for_component(name, slot, names)
            fix = findings.fix(at, f"use `{best}`", name, best) if best else None
            spans = findings.spans(at)
            findings.say(errors.unknown_component(name, slot, dotted(at), spans, names, advice, fix))
            meant = components_of(slot).get(best or foreign_component(folded(name), slot))
            if meant is not None:  # what else is wrong with it
                as_meant = {**section, "type": meant.type_name}
                read_section(findings, meant, as_meant, path, f"{slot} `{meant.type_name}`")
        return Part(path, slot, level, name, None, None)
    where = f"{slot} `{name}`" + (f" (level `{level}`)" if level else "")
    spec, _ = read_section(findings, cls, section, path, where)
    return Part(path, slot, level, name, cls, spec)


def _type(
    findings: Findings, section: Mapping[str, Any], path: Path, slot: str, default: str | None, called: str
) -> str | None:
    """Return the name of the component that a mapping means, or say why there is none."""
    at, name = (*path, "type"), section.get("type")
    if isinstance(name, str):
        return name
    if name is not None:
        expected = "the name of a component"
        findings.say(
            errors.bad_value("type", field_descriptions.format_value(name), expected, dotted(at), findings.spans(at))
        )
        return None
    if default:
        return default
    if default is None or findings.fragment:
        return _likely(slot, section)
    if findings.lacks(at):
        about = f"one of {', '.join(f'`{known_name}`' for known_name in component_names(slot))}"
        findings.say(errors.missing_key("type", called, dotted(path), findings.spans(path, key=True), about))
    return None


def _with_type(findings: Findings, section: dict[str, Any], path: Path, called: str, slot: str) -> dict[str, Any]:
    """Read a misspelt `type`, or another tool's key for it, as `type`, after a diagnostic."""
    if "type" in section:
        return section
    known = {key for cls in components_of(slot).values() for key in field_descriptions.keys_of(cls)}
    for key, value in section.items():
        if key in known or not isinstance(value, str):
            continue
        from recipec.reading.component_suggestions import TYPES  # noqa: PLC0415 - only mistakes need advice
        from recipec.reading.foreign.advice import component_key  # noqa: PLC0415

        type_name = component_key(slot, key, value)
        if type_name:
            pass
        elif distance(key, "type") == 1 or (key in TYPES and value in component_names(slot)):
            type_name = value
        else:
            continue
        unknown_key(findings, key, value, path, called, ["type"], section)
        return {"type": type_name, **{k: v for k, v in section.items() if k != key}}
    return section


def _likely(slot: str, section: Mapping[str, Any]) -> str:
    """Find the component that knows most of the keys: the recipe that extends a fragment may say the type."""
    known = dict(components_of(slot))
    if not any(set(section) <= set(field_descriptions.keys_of(cls)) for cls in known.values()):
        known |= {name: cls for name, cls in installed_components(slot).items() if not isinstance(cls, Exception)}
    return max(known, key=lambda name: len(set(section) & set(field_descriptions.keys_of(known[name]))))


def _found(findings: Findings, slot: str, name: str, path: Path) -> type[Component] | None:
    try:
        return find_component(slot, name)
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything while it is imported
        findings.say(errors.broken_plugin(slot, name, str(error), dotted(path), findings.spans(path)))
        findings.suggested.add(path)
        return None


def check_name(
    findings: Findings, name: str, path: Path, what: str, taken: Callable[[str], bool] = lambda _: False
) -> None:
    """Say that a name cannot be used."""
    if STAGE_NAME.fullmatch(name) and not taken(name):
        return
    letters = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in folded(name)).strip("_")
    better = letters if STAGE_NAME.fullmatch(letters) and not taken(letters) else ""
    advice = f"write `{better}`" if better else "begin with a small letter; then small letters, digits and `_`"
    fix = findings.fix(path, f"rename it to `{better}`", name, better, key=True) if better else None
    findings.say(errors.bad_name(name, what, dotted(path), findings.spans(path, key=True), advice, fix))


def _allow(findings: Findings, data: Any, path: Path, owner: str) -> dict[str, str]:
    """Read the reasons by code, empty if a reason is blank or not a string; RC146 reports what cannot be allowed."""
    if data is None:
        return {}
    findings.consume(data, path, owner)
    allowed = findings.mapping(data, path, "`allow`") or {}
    return {code: why if isinstance(why, str) and why.strip() else "" for code, why in allowed.items()}


def _budget(findings: Findings, data: Any, path: Path, kind: Kind | None, owner: str) -> Budget | None:
    """Read a budget; its counts must be those of the stage's kind."""
    if data is None:
        return None
    findings.consume(data, path, owner)
    section = findings.mapping(data, path, "`budget`")
    if section is None:
        return None
    before = len(findings.found)
    spec, _ = read_section(findings, Budget, section, path, "the budget")
    keys = [key for key, value in section.items() if value is not None]
    if kind is not None:
        _units(findings, keys, path, kind)
    lengths = [key for key in _LENGTHS if key in keys]
    if len(lengths) == 2:
        findings.say(errors.ambiguous_budget(lengths, _LENGTHS, dotted(path), _each(findings, path, lengths)))
    elif not lengths and not findings.fragment and all(findings.lacks((*path, key)) for key in _LENGTHS):
        findings.say(errors.ambiguous_budget((), _LENGTHS, dotted(path), findings.lacking(path)))
    cuts = [key for key in _CUTS if key in keys]
    if len(cuts) > 1:
        _several_cuts(findings, path, cuts)
    return spec if len(findings.found) == before else None


def _several_cuts(findings: Findings, path: Path, cuts: Sequence[str]) -> None:
    """Say that minibatches are counted twice; a count that an included file gives is removed by `null`."""
    of_user = sorted(
        cuts, key=lambda key: (findings.resolved.span((*path, key)).file != findings.root, cuts.index(key))
    )
    last = findings.resolved.span((*path, of_user[-1])).file
    included = of_user[-1] if last in findings.resolved.files and last != findings.root else ""
    remedy = f"write `{included}: null` in this budget to remove the one of {last}" if included else ""
    spans = _each(findings, path, of_user)
    findings.say(errors.ambiguous_budget(cuts, _CUTS, dotted(path), spans, remedy))


def _units(findings: Findings, keys: Sequence[str], path: Path, kind: Kind) -> None:
    unit = UNIT[kind]
    wrong = [key for key in UNIT.values() if key != unit and key in keys]
    instead = dict.fromkeys(wrong, unit)
    if kind != "rl" and "prompts_per_update" in keys:
        instead["prompts_per_update"] = "rows_per_update"
    for key, better in instead.items():
        at = (*path, key)
        fix = findings.fix(at, f"count in `{better}`", key, better, key=True) if better not in keys else None
        findings.say(errors.wrong_count(key, kind, dotted(at), findings.spans(at, key=True), better, fix))
    if unit not in keys and not wrong and not findings.fragment and findings.lacks((*path, unit)):
        about = field_descriptions.about(Budget, unit)
        spans = findings.lacking(path)
        findings.say(errors.missing_key(unit, f"the budget of a stage of kind `{kind}`", dotted(path), spans, about))


def _each(findings: Findings, path: Path, keys: Sequence[str]) -> tuple[Any, ...]:
    return tuple(span for key in keys for span in findings.spans((*path, key), key=True)[:1])

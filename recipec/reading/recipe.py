"""Resolved data -> frozen specs, slot by slot: RC130 to RC199.

One bad parameter hides nothing else: every component is validated on its own, and one that could not be read still
counts
for what its class declares.

``read`` is the recipe as a whole, ``stage`` one stage, ``section`` one mapping; ``wording`` says what a parameter
takes,
``advice`` and ``names`` what may have been meant, ``parts`` is what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from recipec.component import Section, component_names, find_component
from recipec.diagnostics.errors import reading as errors
from recipec.diagnostics.model import COMMAND_LINE, Diagnostic, Fix, dotted
from recipec.reading import field_descriptions, paths
from recipec.reading.findings import Findings
from recipec.reading.partial import EvaluationReading, Part, Path, Reading, StageReading
from recipec.reading.section import read_plain, unknown_key
from recipec.reading.stage import check_name, read_levels, read_part, read_stage
from recipec.spec.machine import ENGINE_SLOTS, Machine, default_engine
from recipec.spec.recipe import FORMAT, KEY_SLOTS, SLOT, Evaluation, Levels, Recipe, Stage, weights_kind

if TYPE_CHECKING:
    from recipec.language.resolve import Resolved

__all__ = ["EvaluationReading", "Part", "Path", "Reading", "StageReading", "read_recipe"]

S = TypeVar("S", bound=Section)
_SECTIONS = ("stages", "evaluate", "machine", "trackers")
_OF_FRAGMENT = ("recipec", "vars", "name")
"""Keys at the top of a fragment of a stage that are not those of the stage."""
_TRACKERS = "`trackers`, which holds named trackers,"


def read_recipe(resolved: Resolved) -> Reading:
    """Validate resolved data slot by slot; a file without ``stages`` is read as a fragment of a stage or a recipe."""
    data: dict[str, Any] = resolved.data
    fragment = resolved.is_fragment
    findings = Findings(resolved, fragment)
    findings.consumed[""] = "recipe"
    stages: dict[str, StageReading] = {}
    keys: Sequence[str] = field_descriptions.keys_of(Recipe)
    if fragment and any(key in field_descriptions.keys_of(Stage) for key in data):
        keys = _OF_FRAGMENT
        stages[""] = read_stage(findings, "", data, (), (), keys)
    elif fragment or "stages" in data:
        _unknown_keys(findings, data)
    section = {key: value for key, value in data.items() if value is not None and key in keys}
    for key, value in section.items():
        if key not in _SECTIONS:
            findings.consume(value, (key,), "recipe")
    _version(findings, data)
    settings = {key: value for key, value in section.items() if key != "recipec"}
    plain = read_plain(findings, Recipe, settings, (), "the recipe", _SECTIONS)
    if not fragment:
        if "name" not in section and findings.lacks(("name",)):
            about = field_descriptions.about(Recipe, "name")
            findings.say(errors.missing_key("name", "the recipe", "", findings.spans(("name",), key=True), about))
        stages = _stages(findings, data.get("stages", {}))
    plain["use"] = _use(findings, plain["use"] or ())
    _variables(findings, section.get("vars"))
    trials = _evaluations(findings, section.get("evaluate"))
    engines, machine = _machine(findings, section.get("machine"))
    trackers = _trackers(findings, section.get("trackers"))
    stages = {name: _crossed(stage, stages) for name, stage in stages.items()}
    diagnostics = tuple(sorted(findings.found, key=_order))
    recipe = None
    if resolved.complete and not fragment and not any(one.is_error for one in (*resolved.diagnostics, *diagnostics)):
        recipe = _assembled(plain, stages, trials, machine, trackers)
    evaluate = {name: trial.spec for name, trial in trials.items() if trial.spec is not None and _has_data(trial)}
    return Reading(
        resolved, recipe, stages, evaluate, trials, engines, findings.consumed, diagnostics, fragment, trackers
    )


def _unknown_keys(findings: Findings, data: dict[str, Any]) -> None:
    """Report the keys at the top that a recipe does not have; a fragment may have those of a stage."""
    keys, more, where = field_descriptions.keys_of(Recipe), ["extends"], "the recipe"
    if findings.fragment:
        more = [*field_descriptions.keys_of(Stage), *more]
        where = "the file, which has no `stages` and is read as a fragment"
    for key, value in data.items():
        if key not in keys:
            findings.consume(value, (key,), "recipe")
            unknown_key(findings, key, value, (), where, [*keys, *more], data)


def _has_data(trial: EvaluationReading) -> bool:
    """Whether an evaluation names its data, which a fragment may leave open."""
    return any(part.slot == "data" for part in trial.parts)


def _order(diagnostic: Diagnostic) -> tuple[str, int, int, str]:
    """Sort by place: the order of the user's own text."""
    if not diagnostic.spans:
        return ("", 0, 0, diagnostic.code)
    first = diagnostic.spans[0]
    return (first.file, first.line, first.column, diagnostic.code)


def _version(findings: Findings, data: dict[str, Any]) -> None:
    """Check the format version: that it is there, known, and first in its file."""
    path = ("recipec",)
    if data.get("recipec") is None:
        if findings.lacks(path):
            spans = findings.spans(path, key=True)
            top = spans[0]._replace(end_line=spans[0].line, end_column=spans[0].column)
            first = data and top.column == 1 and top.file == findings.root
            fix = Fix("write it", top, f"recipec: {FORMAT}\n") if first else None
            findings.say(errors.format_version("", "recipec", spans, fix))
        return
    value = data["recipec"]
    if type(value) is not int or value != FORMAT:
        fix = findings.fix(path, f"write {FORMAT}", value, str(FORMAT))
        findings.say(
            errors.format_version(field_descriptions.format_value(value), "recipec", findings.spans(path), fix)
        )
    mine = findings.resolved.span(path, key=True)
    others = [findings.resolved.span((key,), key=True) for key in data if key != "recipec"]
    if any(span.file == mine.file and (span.line, span.column) < (mine.line, mine.column) for span in others):
        findings.say(errors.format_first("recipec", (mine,)))


def _stages(findings: Findings, data: Any) -> dict[str, StageReading]:
    path: Path = ("stages",)
    findings.consumed["stages"] = "recipe"
    section = findings.mapping(data, path, "`stages`") if data is not None else {}
    if section is None:
        findings.consume(data, path, "recipe")
        return {}
    if _unnamed(findings, section, path, "stages", "stage", Stage, "kind"):
        return {}
    stages: dict[str, StageReading] = {}
    for name, value in section.items():
        at = (*path, name)
        if value is not None:
            check_name(findings, name, at, "a stage", taken=lambda word: word == "scratch")
            stages[name] = read_stage(findings, name, value, at, tuple(stages), ())
    if not stages and findings.lacks(path):
        findings.say(errors.no_stages("stages", findings.spans(path, key=True)))
    return stages


def _crossed(stage: StageReading, stages: dict[str, StageReading]) -> StageReading:
    """Give a stage without a policy of its own the one that crosses with ``from``, or the default."""
    if stage.of("policy") or stage.kind is None or not stage.name:
        return stage
    seen, at = {stage.name}, stage
    while not at.of("policy") and at.origin in stages and at.origin not in seen:
        seen.add(at.origin)
        at = stages[at.origin]
    inherited = at.of("policy")
    if inherited:
        return replace(stage, parts=(*stage.parts, replace(inherited[0], given=False)))
    cls = find_component("policy", SLOT["policy"].default)
    assert cls is not None
    path = (*stage.path, "policy")
    unknown = at.origin is None or (weights_kind(at.origin) == "stage" and at.origin not in stages)
    part = Part(path, "policy", "", "", None, None, given=False)
    if not unknown:
        part = replace(part, name=cls.type_name, cls=cls, spec=cls())
    return replace(stage, parts=(*stage.parts, part))


def _use(findings: Findings, entries: Iterable[str]) -> tuple[str, ...]:
    """Check the names of the user's own files."""
    moved = []
    for index, entry in enumerate(entries):
        path: Path = ("use", index)
        if not entry.endswith(".py") or entry.startswith(("/", "~")) or "://" in entry:
            findings.say(errors.own_file(field_descriptions.format_value(entry), dotted(path), findings.spans(path)))
        moved.append(paths.rebased(entry, findings.resolved.file(path), findings.root))
    return tuple(moved)


def _variables(findings: Findings, data: Any) -> None:
    """Say which of the recipe's own variables nothing refers to; those of an included file are for many recipes."""
    if findings.fragment or not isinstance(data, dict) or not findings.resolved.complete:
        return
    used = {target[:2] for use in findings.resolved.graph.uses.values() for target in use.targets}
    repeated = {node.anchor.span for node in findings.resolved.graph.tree.below() if node.anchor is not None}
    for name in data:
        path: Path = ("vars", name)
        if any(place != path for place in findings.resolved.unknown) or _named_as_text(findings, name):
            continue  # a wrong reference may be meant for it, which has a message of its own
        spans = findings.spans(path, key=True)
        definition = findings.resolved.graph.follow(path).node
        if definition is not None and any(node.span in repeated for node in definition.below()):
            continue
        if path in used or ("vars",) in used or spans[0].file not in {findings.root, COMMAND_LINE}:
            continue
        findings.say(errors.unread_variable(name, dotted(path), spans))


def _named_as_text(findings: Findings, name: str) -> bool:
    """Whether a value that was refused names a variable without being a reference."""
    return any(f"vars.{name}" in diagnostic.message for diagnostic in findings.found)


def _evaluations(findings: Findings, data: Any) -> dict[str, EvaluationReading]:
    path: Path = ("evaluate",)
    if data is None:
        return {}
    findings.consumed["evaluate"] = "recipe"
    section = findings.mapping(data, path, "`evaluate`, which holds named evaluations,")
    if section is None:
        findings.consume(data, path, "recipe")
        return {}
    if _unnamed(findings, section, path, "evaluations", "evaluation", Evaluation, "data"):
        return {}
    trials = {}
    for name, value in section.items():
        if value is not None:
            check_name(findings, name, (*path, name), "an evaluation")
            trials[name] = _evaluation(findings, name, value, (*path, name))
    return trials


def _unnamed(
    findings: Findings, section: Mapping[str, Any], path: Path, parts: str, part: str, cls: type[Section], key: str
) -> bool:
    """Say that a mapping of named parts has the keys of one part, if it has."""
    if key not in section or not set(section) <= set(field_descriptions.keys_of(cls)):
        return False
    findings.consume(section, path, "recipe")
    written = f"{{{', '.join(f'{key}: …' for key in [*section][:3])}}}"
    findings.say(errors.unnamed(str(path[-1]), parts, part, written, dotted(path), findings.spans(path, key=True)))
    return True


def _evaluation(findings: Findings, name: str, data: Any, path: Path) -> EvaluationReading:
    owner, where = f"evaluate.{name}", f"evaluation `{name}`"
    findings.consume(data, path, owner)
    section = findings.mapping(data, path, where)
    if section is None:
        return EvaluationReading(name, path, (), None)
    before, keys = len(findings.found), field_descriptions.keys_of(Evaluation)
    for key, value in section.items():
        if key not in keys:
            unknown_key(findings, key, value, path, where, keys, section)
    section = {key: value for key, value in section.items() if value is not None and key in keys}
    plain = read_plain(findings, Evaluation, section, path, where, ("data", "environment", "knowledge", "reward"))
    parts: list[Part] = []
    if "data" in section:
        parts.append(
            read_part(findings, section["data"], (*path, "data"), "data", SLOT["data"].default, f"{owner}/data")
        )
    elif not findings.fragment and findings.lacks((*path, "data")):
        about = "held-out tasks, as `{path: …}`"
        findings.say(errors.missing_key("data", where, dotted(path), findings.spans(path, key=True), about))
    parts += [
        read_part(findings, section[slot], (*path, slot), slot, "", f"{owner}/{slot}")
        for slot in ("environment", "knowledge")
        if slot in section
    ]
    if isinstance(levels := section.get("reward"), dict) and all(level is None for level in levels.values()):
        advice = "leave it out for the rewards of the first rl stage, or name some: `reward: {NAME: {type: …}}`"
        at = (*path, "reward")
        findings.say(errors.not_a_mapping(f"`reward` of {where}", "empty", dotted(at), findings.spans(at), advice))
    elif "reward" in section:
        parts += read_levels(findings, section["reward"], (*path, "reward"), "reward", f"{owner}/reward")
    spec = None
    if len(findings.found) == before and parts and all(part.spec is not None for part in parts):
        rewards = {part.level: part.spec for part in parts if part.slot == "reward"}
        others = {part.slot: part.spec for part in parts if part.slot != "reward"}
        spec = _made(Evaluation, {**plain, **others, "reward": rewards})
    return EvaluationReading(name, path, tuple(parts), spec)


def _machine(findings: Findings, data: Any) -> tuple[dict[str, Part], Machine | None]:
    path: Path = ("machine",)
    engines = {}
    section: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    if data is not None:
        findings.consume(data, path, "machine")
        section = findings.mapping(data, path, "`machine`") or {}
        keys = field_descriptions.keys_of(Machine)
        for key, value in section.items():
            if key not in keys:
                unknown_key(findings, key, value, path, "`machine`", keys, section)
        section = {key: value for key, value in section.items() if value is not None and key in keys}
        plain = read_plain(findings, Machine, section, path, "`machine`", tuple(ENGINE_SLOTS))
    for engine, slot in ENGINE_SLOTS.items():
        at, default = (*path, engine), default_engine(engine)
        if engine in section:
            engines[engine] = read_part(findings, section[engine], at, slot, default.type_name, "machine")
        else:
            engines[engine] = Part(at, slot, "", default.type_name, default, default(), given=False)
    values = {**plain, **{name: part.spec for name, part in engines.items()}}
    return engines, _made(Machine, values) if all(part.spec for part in engines.values()) else None


def _trackers(findings: Findings, data: Any) -> tuple[Part, ...]:
    key, path = "trackers", ("trackers",)
    names = () if data is None or isinstance(data, dict) else component_names(KEY_SLOTS[key])
    section = findings.mapping(data, path, _TRACKERS, names) if data is not None else {}
    findings.consume(data, path, "trackers")
    parts = []
    if section and isinstance(section.get("type"), str):
        written = f"{{type: {section['type']}, …}}"
        findings.say(errors.unnamed(key, "trackers", "one", written, key, findings.spans(path, key=True)))
        return ()
    for name, value in (section or {}).items():
        if value is not None:
            check_name(findings, name, (*path, name), "a tracker")
            parts.append(read_part(findings, value, (*path, name), KEY_SLOTS[key], "", key, level=name))
    return tuple(parts)


def _assembled(
    plain: dict[str, Any],
    stages: dict[str, StageReading],
    trials: dict[str, EvaluationReading],
    machine: Machine | None,
    trackers: tuple[Part, ...],
) -> Recipe:
    """Put validated pieces together; they are not validated a second time.

    Variables have been put in place by now, so that the recipe has none.
    """
    specs = {name: _stage(stage) for name, stage in stages.items()}
    evaluate = {name: trial.spec for name, trial in trials.items()}
    values = {**plain, "vars": {}, "recipec": FORMAT, "stages": specs, "evaluate": evaluate, "machine": machine}
    return _made(Recipe, {**values, "trackers": {part.level: part.spec for part in trackers}})


def _stage(stage: StageReading) -> Stage:
    values: dict[str, Any] = {
        "kind": stage.kind, "from_": stage.origin, "adapter": stage.adapter, "budget": stage.budget,
        "allow": stage.allow,
        **{key: getattr(stage.levels, key) for key in Levels.model_fields},
    }  # fmt: skip
    for part in stage.parts:
        if part.level:
            values.setdefault(part.slot, {})[part.level] = part.spec
        elif part.given or part.slot in {"loss", "optimizer"}:
            values[part.slot] = part.spec
    return _made(Stage, values)


def _made(cls: type[S], values: dict[str, Any]) -> S:
    """Make a section of values that are validated already."""
    spec = cls.model_construct(**{key: value for key, value in values.items() if value is not None})
    assert isinstance(spec, cls)
    return spec

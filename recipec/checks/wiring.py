"""Every signal that a component needs is provided in its stage: RC204 to RC211, RC214."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from recipec.checks.dataflow import Dataflow, dataflow, possible_providers, provided
from recipec.checks.evaluation import answered
from recipec.checks.queries import Spans, at_part, at_path, display_name, field_span, related_span, span_of
from recipec.checks.signal_references import unfit
from recipec.component import Need, When, components_of
from recipec.diagnostics.model import Finding, check, dotted
from recipec.reading.partial import Part, Reading, StageReading
from recipec.signals import Signal, find_signal, split_axes
from recipec.spec.recipe import PAIRED_KINDS, SLOT, UNIT

_WITHOUT = {
    "by_tree_R": "without trees every row is alone in its group, and its credit is its raw reward",
    "by_anchor_R": "without states to compare, no steps can be compared",
    "state_R": "a row that is a whole trajectory has many states, not one",
    "branchable": "a tree continues episodes from their middle, so the environment must be able to return there",
    "state_key": "steps are compared if they start from the same state of the environment",
    "tasks": "the policy would have no tasks",
    "knowledge": "without facts no answer can be preferred",
    "old_value_RT": "generalised advantages are made of the values of a critic, and the stage has none",
    "teacher": "without `from` a reference is the policy itself, from which nothing can be learnt",
    "sampling": "pairs are made of the policy's own answers, which need a sampler",
}


def _asks_tasks(part: Part) -> bool:
    """Whether a component asks each task for its own verifier."""
    cls: Any = part.cls if part.slot in {"reward", "environment"} else None
    return cls is not None and cls.asks_tasks


def _tasks_without_verifier(part: Part | None) -> str:
    """Say what the tasks of a source are, where none of them can judge an answer."""
    cls: Any = part.cls if part is not None and part.slot == "data" else None
    return "" if cls is None else cls.without_verifiers


@lru_cache(maxsize=1)  # for the checks of this module, which run one after another
def stages_with_dataflow(reading: Reading) -> tuple[tuple[StageReading, Dataflow], ...]:
    """Return the stages of known kind, with their dataflow."""
    stages = () if reading.fragment else reading.stages.values()
    return tuple((stage, dataflow(stage)) for stage in stages if stage.kind is not None)


@check("RC204", "unmet-requirement")
def unmet_requirement(reading: Reading) -> Iterator[Finding]:
    """A component needs a signal that nothing in its stage provides.

    What it checks: every signal that a component requires, given its parameters, against everything that the other
    components of the stage and the compiler itself provide. The order in the file does not matter.
    Why it matters: the signal would not exist, and the run would stop at its first step.
    Example: `advantage: {within_tree: {type: group_relative, group: by_tree_R}}` with `sampler: {type: chain}`.
    How to fix: add a component that provides the signal, or drop the one that needs it.
    """
    for stage, flows in stages_with_dataflow(reading):
        gives = flows.gives
        for part in stage.parts:
            hopeless = False
            for need in part.spec.requires() if part.spec is not None else ():
                signal = find_signal(need.signal)
                if signal is None or "." in need.signal or signal.name in {"rollouts", "pairs", "policy"}:
                    continue
                if provided(need.signal, gives) or _misnamed(need, signal):
                    continue
                if part.slot == "reward" and need.signal == "rewards" and not stage.of("environment"):
                    continue  # RC211 says it in the words of the environment
                providers = possible_providers(need.signal, stage.kind)
                if part.cls is not None and not part.cls.available() and not providers:
                    continue
                if hopeless and not providers:
                    continue  # one message is enough of a component that is of another kind of stage
                hopeless = hopeless or not providers
                advice, more = _advice(reading, stage, part, need, providers)
                yield Finding(
                    f"{display_name(part)} needs `{need.signal}`, but nothing in this stage provides it",
                    (*_requirement_span(reading, part, need), *more),
                    why=_WITHOUT.get(need.signal, f"`{need.signal}` would be missing: {signal.doc}"),
                    help=advice,
                    path=dotted((*part.path, need.param) if need.param else part.path),
                )


def _misnamed(need: Need, signal: Signal) -> bool:
    """Whether RC201, RC202 or RC203 says already that the name is wrong."""
    wanted = split_axes(need.parameter)[1]
    other = need.param is not None and (signal.kind != "column" or signal.axes != wanted)
    return need.signal != need.parameter and (other or bool(unfit(need, signal)))


def _requirement_span(reading: Reading, part: Part, need: Need) -> Spans:
    return field_span(reading, part, need.param or "type")


def _advice(
    reading: Reading, stage: StageReading, part: Part, need: Need, providers: list[tuple[str, str]]
) -> tuple[str, Spans]:
    """Say what would provide the signal, and point at the component that is there instead."""
    drop = "drop this level" if part.level else f"drop {display_name(part)}"
    here = {(other.slot, other.name) for other in stage.parts}
    for slot, name in sorted(providers, key=lambda one: one not in here):  # rather a parameter of what is there
        for other in stage.of(slot):
            conditional = _conditional_provider(other, need.signal) if other.name == name else None
            if conditional is not None and conditional.any_value:
                fact = " if that is true" if slot == "environment" else ""
                what = f"set {slot}.{conditional.param.rstrip('_')}{fact}, or use another {slot}"
            elif conditional is not None:
                what = f"set {slot}.{conditional.param} to `{conditional.value}`"
            elif not SLOT[slot].levels and other.name != name:
                what = f"set {slot}.type to `{name}`"
            else:
                continue
            label = f"the {slot} of this stage is `{other.name}`"
            return f"{what}, or {drop}", related_span(reading, (*other.path, "type"), label)
    if providers:
        slot, name = providers[0]
        form = f"{slot}: {{NAME: {{type: {name}}}}}" if SLOT[slot].levels else f"{slot}: {{type: {name}}}"
        return f"add `{form}`, or {drop}", ()
    others = [kind for kind in UNIT if part.slot == "loss" and kind != stage.kind]
    kinds = [kind for kind in others if provided(need.signal, dataflow(replace(stage, kind=kind)).gives)]
    fitting = f"it is for stages of kind {' or '.join(f'`{kind}`' for kind in kinds)}; " if kinds else ""
    return f"nothing in a `{stage.kind}` stage can provide it: {fitting}{drop}", ()


def _conditional_provider(part: Part, signal: str) -> When | None:
    declared = part.cls._provides if part.cls is not None else ()  # noqa: SLF001 - the conditions are data
    return next((w for w in declared if isinstance(w, When) and w.signal == signal), None)


@check("RC205", "two-providers")
def two_providers(reading: Reading) -> Iterator[Finding]:
    """Two components of a stage provide the same signal.

    What it checks: columns with more than one source. Levels of `reward` and `advantage` are added and not reported;
    pairs of a `preference` replace those in the data.
    Why it matters: only one of them could be used, and it would be undefined which.
    Example: two `environment` rewards in one stage, which both give `return_R`.
    How to fix: keep one of them.
    """
    for _, flows in stages_with_dataflow(reading):
        seen: dict[str, Part] = {}
        reported: set[str] = set()
        for part, signals in flows.sources:
            for signal in signals:
                first = seen.setdefault(signal, part)
                pair = f"{dotted(first.path)} {dotted(part.path)}"
                if first is part or {first.slot, part.slot} == {"data", "preference"} or pair in reported:
                    continue
                reported.add(pair)
                yield at_path(reading, part.path, key=True).finding(
                    f"{display_name(first)} and {display_name(part)} both provide `{signal}`",
                    *related_span(reading, first.path, "the other component", key=True),
                )


@check("RC206", "circle")
def cycle(reading: Reading) -> Iterator[Finding]:
    """Components depend on each other in a cycle.

    What it checks: no signal needs itself, directly or indirectly.
    Why it matters: there is no order in which they could run. Only weights, optimizer state and counters are carried
    from one step to the next, never a column.
    Example: `value: advantage_R` in an advantage level: the sum of the levels needs the level.
    How to fix: name a signal that is known before, such as `reward_R`.
    """
    for _, flows in stages_with_dataflow(reading):
        for part, signals in flows.cycles():
            names = [
                need.param for need in (part.spec.requires() if part.spec else ()) if need.param in flows.refs(part)
            ]
            yield Finding(
                f"{display_name(part)} depends on itself: {' -> '.join(f'`{signal}`' for signal in signals)}",
                field_span(reading, part, str(names[0]) if names else "type"),
                path=dotted((*part.path, str(names[0])) if names else part.path),
            )


@check("RC208", "no-pairs")
def no_pairs(reading: Reading) -> Iterator[Finding]:
    """A `dpo` stage has neither data with pairs nor a `preference`.

    What it checks: that `chosen_P` and `rejected_P` come from `data` or from `preference`.
    Why it matters: `dpo` and `rm` compare a chosen and a rejected answer to the same prompt.
    Example: a `dpo` stage with data `reasoning_gym`, without `preference`.
    How to fix: use data with the columns prompt, chosen and rejected, or `preference: {type: best_vs_worst, rollouts:
    STAGE.rollouts}`.
    """
    for stage, flows in stages_with_dataflow(reading):
        if stage.kind in PAIRED_KINDS and not {"chosen_P", "rejected_P"} <= set(flows.gives):
            data = stage.of("data")
            yield Finding(
                f"stage `{stage.name}` has no pairs: "
                + (
                    f"data `{data[0].name}` has none and there is no `preference`"
                    if data
                    else "no `data`, no `preference`"
                ),
                field_span(reading, data[0], "type") if data else span_of(reading, (*stage.path, "kind")),
                path=dotted((*stage.path, "data")),
            )


@check("RC209", "no-verifier")
def no_verifier(reading: Reading) -> Iterator[Finding]:
    """The reward `verifier` is used with tasks that have no verifier.

    What it checks: the reward `verifier` and the environment `reasoning_gym` against the source of the tasks, in stages
    and in evaluations.
    Why it matters: rows of a file are text, and tasks of an environment have no right answer; neither can score an
    answer.
    Example: `data: {path: tasks.jsonl}` with `reward: {right: {type: verifier}}`.
    How to fix: use `exact_match` or `math_verify` with the column of the answer, or data `reasoning_gym`.
    """
    why = "rows of a file are text, which cannot score an answer"
    advice = "use `exact_match` or `math_verify` with the column of the answer, or data `reasoning_gym`"
    for stage in reading.stages.values():
        data = next(iter(stage.of("data")), None)
        tasks = _tasks_without_verifier(data)
        for part in (*stage.of("reward"), *stage.of("environment")):
            if data is not None and tasks and _asks_tasks(part):
                spans = field_span(reading, part, "type")
                more = related_span(reading, data.path, f"the data of this stage is a `{data.name}`", key=True)
                message = f"{display_name(part)} needs the verifier of each task, but {tasks} have none"
                better = advice if part.slot == "reward" else "use data `reasoning_gym`"
                yield Finding(message, (*spans, *more), why, better, dotted(part.path))
    scoring = next((stage for stage in reading.stages.values() if stage.kind == "rl"), None)
    for name, evaluation in reading.evaluate.items():
        parts = reading.trials[name].parts
        own = [part for part in parts if part.slot == "reward"]
        levels = own or (scoring.of("reward") if scoring else ())
        data = next((part for part in parts if part.slot == "data"), None)  # a fragment may leave it open
        tasks = "" if data is None else _tasks_without_verifier(data)
        if not answered(evaluation):
            continue
        if tasks and any(_asks_tasks(part) for part in levels):
            whose = "" if own else f", which come from stage `{scoring.name if scoring else ''}`,"
            yield Finding(
                f"the rewards of evaluation `{name}`{whose} need the verifier of each task, but {tasks} have none",
                span_of(reading, ("evaluate", name, "data"), key=True),
                why,
                advice,
                f"evaluate.{name}.data",
            )


@check("RC210", "unused-component", "warning")
def unused_component(reading: Reading) -> Iterator[Finding]:
    """A component provides a signal that nothing in its stage uses.

    What it checks: something uses what `grouping`, `reference`, `knowledge`, in `dpo` stages `sampler`, and with a
    `preference` `data` provide.
    Why it matters: the component looks as if it had an effect. A reference without `beta` or `ratio_to`, for example,
    does not constrain the policy.
    Example: `reference: {type: lagged}` with a loss with `beta: 0`.
    How to fix: turn on what should use it, or drop it.
    """
    uses = {
        "reference": "set loss.beta above 0, or `ratio_to: ref_logprob_RT`",
        "grouping": "name one of its groups in an advantage level, as `group: by_anchor_R`",
        "knowledge": "give the stage a `preference` that reads facts",
        "data": "drop it: the pairs bring their own prompts",
        "sampler": "drop it, or give the stage a `preference` that asks for answers",
    }
    for stage, flows in stages_with_dataflow(reading):
        if any(part.spec is None for part in stage.parts):
            continue  # what could not be read may be what asks for it
        for part in stage.parts:
            watched = part.slot in {"grouping", "reference", "knowledge"}
            watched |= stage.kind == "dpo" and part.slot == "sampler"
            watched |= stage.kind in PAIRED_KINDS and part.slot == "data" and bool(stage.of("preference"))
            if not watched or not part.given or flows.used(part) or _evaluated(reading, part):
                continue
            signals = ", ".join(f"`{signal}`" for signal in part.could_provide()[:3])
            turned_on = uses[part.slot]
            if part.slot == "reference" and not any("ref_logprob_RT" in _may_read(other) for other in stage.parts):
                turned_on = "drop it: what this stage trains by is compared with no reference"
            yield at_path(reading, part.path, key=True).finding(
                f"nothing in stage `{stage.name}` uses {display_name(part)}",
                why=f"it provides {signals}, which no component of the stage uses",
                remedy=turned_on + ("" if turned_on.startswith("drop") else ", or drop it"),
            )


def _may_read(part: Part) -> tuple[str, ...]:
    """Columns that a component reads with some parameters."""
    return part.cls.parameters() if part.cls is not None else ()


def _evaluated(reading: Reading, part: Part) -> bool:
    """Whether an evaluation holds answers against a stage's facts."""
    parts = [other for trial in reading.trials.values() for other in trial.parts]
    asking = (other for other in parts if other.spec is not None and other.spec.needs("knowledge"))
    return part.slot == "knowledge" and any(asking)


@check("RC211", "no-environment")
def no_environment(reading: Reading) -> Iterator[Finding]:
    """The reward `environment` is used in a stage without an environment.

    What it checks: the reward `environment` against the slot `environment`.
    Why it matters: only an environment rewards the steps of an episode.
    Example: `reward: {task: {type: environment}}` in a stage without `environment`.
    How to fix: add an environment, or use a reward that reads the completion.
    """
    for stage, _ in stages_with_dataflow(reading):
        for part in stage.of("reward"):
            if part.spec is not None and part.spec.needs("rewards") and not stage.of("environment"):
                yield at_part(reading, part).finding(
                    f"{display_name(part)} takes the environment's rewards, but this stage has no environment",
                    remedy="add `environment: {type: …}` with one of "
                    + ", ".join(f"`{n}`" for n in components_of("environment")),
                )


@check("RC214", "credit-unread")
def credit_unread(reading: Reading) -> Iterator[Finding]:
    """The loss of an `rl` stage does not use the advantages.

    What it checks: the loss of an `rl` stage needs `advantage_RT`, whatever its parameters, or learns from a teacher in
    a stage without `advantage`.
    Why it matters: rewards and advantages would be computed and ignored: with `nll` the policy would imitate all of its
    answers equally, including wrong ones.
    Example: `kind: rl` with `loss: {type: nll}`.
    How to fix: set `loss.type` to `clipped`, with an advantage level `{type: reverse_kl}` to learn from a teacher, too;
    to imitate the best answers, use an `sft` stage with data `rollouts`.
    """
    for stage, flows in stages_with_dataflow(reading):
        for part in stage.of("loss"):
            if stage.kind != "rl" or part.spec is None:
                continue
            needs = [need.signal for need in part.spec.requires()]
            alone = "teacher" in needs and not stage.of("advantage")
            if "advantage_RT" not in needs and not alone and all(provided(need, flows.gives) for need in needs):
                yield at_part(reading, part).finding(
                    f"{display_name(part)} does not use the advantages",
                    *related_span(reading, (*stage.path, "advantage"), "the advantages, which are not used", key=True),
                )

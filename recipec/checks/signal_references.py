"""Parameters that name signals: axes, kind, and an earlier stage as provider: RC201 to RC203, RC207."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from recipec.checks.queries import at_field, display_name
from recipec.component import Need
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.phrases import nearest, question
from recipec.reading.partial import Part, Reading, StageReading
from recipec.signals import Signal, find_signal, split_axes
from recipec.spec.recipe import Kind

_RATIO_TO = ("old_logprob_RT", "ref_logprob_RT", "sampler_logprob_RT")
_NO_VALUE = {"ids", "flags", "tasks", "text", "keys", "turns"}


def named(stage: StageReading) -> Iterator[tuple[Part, Need, Signal]]:
    """Yield what parts ask for by a parameter that names a known signal."""
    for part in stage.parts:
        for need in part.spec.requires() if part.spec is not None else ():
            signal = find_signal(need.signal)
            if need.param is not None and signal is not None and need.param == split_axes(need.parameter)[0]:
                yield part, need, signal


@check("RC201", "wrong-axes")
def wrong_axes(reading: Reading) -> Iterator[Finding]:
    """A parameter names a column with other axes than the component works on.

    What it checks: the axes in the name of the signal against those of the parameter. A signal without the token axis
    may be used where one with it is needed (it is repeated), but not the other way round.
    Why it matters: a value per token is not a value per row, and the recipe does not say how to turn one into the
    other.
    Example: `value: logprob_RT` in an advantage level.
    How to fix: name a signal with the axes in the message.
    """
    for stage in reading.stages.values():
        for part, need, signal in named(stage):
            wanted = split_axes(need.parameter)[1]
            if signal.kind == "column" and wanted and signal.axes != wanted:
                yield at_field(reading, part, str(need.param)).finding(
                    f"{display_name(part)} needs a column over {_axes(wanted)} as `{need.parameter}`, "
                    f"but `{need.signal}` is one over {_axes(signal.axes)}",
                    remedy=f"name a signal that ends in `_{wanted}`",
                )


def _axes(axes: str) -> str:
    return {"R": "rows", "RT": "rows and tokens", "P": "prompts", "I": "images"}.get(axes, axes or "nothing")


def unfit(need: Need, signal: Signal) -> str:
    """Say why a column with the right axes cannot fill the parameter; nothing if it can."""
    stem, axes = split_axes(need.parameter)
    if signal.kind != "column" or signal.axes != axes:
        return ""
    if stem == "ratio_to" and signal.name not in _RATIO_TO:
        return "a ratio is taken to the log-probabilities of another policy: " + ", ".join(f"`{r}`" for r in _RATIO_TO)
    if stem == "group" and signal.unit != "ids":
        return "rows of one group share a whole number; values that differ in the last digit would never group"
    if stem == "value" and signal.unit in _NO_VALUE:
        return f"it holds {signal.unit}, and their mean says nothing"
    return ""


@check("RC202", "wrong-unit")
def wrong_unit(reading: Reading) -> Iterator[Finding]:
    """A parameter names a column of another unit than the component works on.

    What it checks: `group` names ids, `value` names an amount, and `ratio_to` names log-probabilities of another
    policy.
    Why it matters: the shapes fit, so that the run would continue with meaningless credit.
    Example: `group: reward_R`, `value: by_prompt_R`, `ratio_to: entropy_RT`.
    How to fix: for `group` use a column that starts with `by_`, for `value` one of `reward_R`, `score_R`, `return_R`.
    """
    for stage in reading.stages.values():
        for part, need, signal in named(stage):
            problem = unfit(need, signal)
            if problem:
                yield at_field(reading, part, str(need.param)).finding(
                    f"`{need.parameter}` of {display_name(part)} cannot be `{need.signal}` ({signal.unit})", why=problem
                )


@check("RC203", "not-a-column")
def not_a_column(reading: Reading) -> Iterator[Finding]:
    """A parameter names an artifact or a feature where a column is needed, or the other way round.

    What it checks: parameters for a column name columns; parameters for what a stage produced name `STAGE.artifact`.
    Why it matters: a column exists for one step, an artifact is the result of a whole stage.
    Example: `group: branchable`, or `rollouts: reward_R`.
    How to fix: use a column for `value`, `group` and `ratio_to`, and `STAGE.rollouts` for `rollouts`.
    """
    for stage in reading.stages.values():
        for part, need, signal in named(stage):
            wanted = find_signal(need.parameter)
            artifact = wanted is not None and wanted.kind == "artifact"
            if artifact and ("." not in need.signal or signal.name != need.parameter):
                message = f"`{need.parameter}` of {display_name(part)} names an artifact, as `STAGE.{need.parameter}`"
            elif not artifact and signal.kind != "column":
                message = f"`{need.parameter}` of {display_name(part)} names a column"
            else:
                continue
            kind = "a" + "n" * (signal.kind == "artifact") + f" {signal.kind}"
            yield at_field(reading, part, str(need.param)).finding(f"{message}; `{need.signal}` is {kind}")


@check("RC207", "unknown-artifact")
def unknown_artifact(reading: Reading) -> Iterator[Finding]:
    """A component reads an artifact that no earlier stage produces.

    What it checks: of `STAGE.artifact`, the stage exists, comes before this one, and is of a kind that produces the
    artifact (`rl` produces rollouts, a stage with `preference` pairs, every stage a policy).
    Why it matters: a stage can only read what an earlier stage has produced.
    Example: `preference: {type: best_vs_worst, rollouts: imitate.rollouts}` where `imitate` is an `sft` stage.
    How to fix: name an earlier `rl` stage, or add one before this stage.
    """
    order = list(reading.stages)
    for stage in reading.stages.values():
        for part in stage.parts:
            for need in part.spec.requires() if part.spec is not None else ():
                maker, dot, artifact = need.signal.rpartition(".")
                if not dot or need.param is None or artifact != need.parameter or reading.fragment:
                    continue
                earlier = order[: order.index(stage.name)]
                having = [name for name in earlier if leaves(reading.stages[name], artifact)]
                if maker in having:
                    continue
                if maker not in order:
                    problem = f"there is no stage `{maker}`"
                elif maker not in earlier:
                    problem = "that is this stage itself" if maker == stage.name else f"`{maker}` comes later"
                else:
                    problem = f"`{maker}` is of kind `{reading.stages[maker].kind}`, which leaves no {artifact}"
                advice = question(f"{name}.{artifact}" for name in nearest(maker, having))
                able = ", ".join(f"`{name}.{artifact}`" for name in having)
                yield at_field(reading, part, need.param).finding(
                    f"{display_name(part)} needs `{need.signal}`: {problem}",
                    remedy=advice or (f"this stage could read {able}" if able else "put an `rl` stage before this one"),
                )


def leaves(stage: StageReading, artifact: str) -> bool:
    """Whether a stage leaves an artifact, as far as is known."""
    makers: dict[str, tuple[Kind, ...]] = {"rollouts": ("rl",), "pairs": ("dpo", "rm")}
    kinds = makers.get(artifact, get_args(Kind))
    return stage.kind is None or (stage.kind in kinds and (artifact != "pairs" or bool(stage.of("preference"))))

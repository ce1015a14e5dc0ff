"""Names of ROLL and of verl's fully asynchronous trainer that are read together with others."""

from __future__ import annotations

from math import ceil
from typing import Any

from recipec.reading.foreign.converters.plain import choice, positive
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    converter,
    number,
    number_or_zero,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part

_OFF = (None, "", "null", "None")
_METHODS = {"mean": (True, False), "mean_std": (True, True), "identity": (False, False)}
_RUNNING = {("running", "running"): "running", ("running", ""): "running_mean", ("", "running"): "running_std"}
"""How a reward is normalised, by the running statistics that are its mean and its deviation."""


@converter
def roll_estimator(value: Any, row: Row, file: File) -> Values:
    """An estimator, with the mean and deviation by which rewards are standardised before it."""
    found = choice(value, row, file)
    if str(value) == "reinforce" or (str(value) == "grpo" and _agentic(file)):
        try:
            return _standardised(file)
        except Refused:  # the names of mean and deviation say so
            return {"advantage.group.type": part("plain_credit")}
    return found


def _agentic(file: File) -> bool:
    return file.get("reward_normalization.grouping") is not None or file.get("reward_normalization.method") is not None


def _levels(file: File) -> tuple[str, str]:
    """Return over what the mean is taken that is subtracted, and the deviation that divides: of nothing if empty."""
    head = "reward_normalization." if _agentic(file) else ""
    levels = [str(file.get(f"{head}norm_{what}_type") or "") for what in ("mean", "std")]
    if not head:
        return levels[0].replace("None", ""), levels[1].replace("None", "")
    grouping = str(file.get(f"{head}grouping") or "batch")
    method = str(file.get(f"{head}method") or "identity")
    if method not in _METHODS or grouping not in {"batch", "traj_group_id"}:
        raise Refused(f"rewards standardised by `{method}` over `{grouping}` are not offered")
    usual = "batch" if grouping == "batch" else "group"
    return (
        levels[0] or (usual if _METHODS[method][0] else ""),
        levels[1] or (usual if _METHODS[method][1] else ""),
    )


def _standardised(file: File) -> Values:
    levels, kind = _levels(file), "advantage.group.type"
    match levels:
        case ("", "") | ("running", "running") | ("running", "") | ("", "running"):
            return {kind: part("plain_credit")}
        case ("group", "group"):
            return {kind: part("grouped")}
        case ("group", ""):
            return {kind: part("grouped"), "advantage.group.scale": "none"}
        case ("group", "batch"):
            return {kind: part("batch_credit")}
        case ("batch", _) if on(file.get("whiten_advantages")):
            return {kind: part("plain_credit")}
        case ("batch", "batch"):
            return {kind: part("plain_credit"), "advantage.whiten": "rows"}
    raise Refused(f"a mean of rewards over `{levels[0]}` with a deviation over `{levels[1]}` is not offered")


@converter
def roll_norm(value: Any, row: Row, file: File) -> Values:
    """How rewards are standardised, which is part of the advantage here."""
    estimator = str(file.get("adv_estimator") or "gae")
    if value in _OFF:
        raise Needless("it is not set")
    if estimator == "grpo" and not _agentic(file):
        raise Needless("`grpo` compares within the group, whatever it is")
    if (how := _RUNNING.get(_levels(file))) and estimator != "gigpo":
        return {"reward.score.normalise": how}
    if estimator in {"reinforce", "grpo"}:
        _standardised(file)
        raise Needless("with `adv_estimator`")
    if estimator == "gigpo" and row.name.endswith("grouping"):
        raise Needless("`gigpo` compares episodes of a prompt and steps of a state")
    if estimator == "gigpo" and str(value) in {"mean", "mean_std"}:
        return {f"advantage.{level}.scale": "std" if value == "mean_std" else "none" for level in ("episode", "step")}
    raise Refused(row.note)


@converter
def roll_rule(value: Any, row: Row, file: File) -> Values:
    """A worker that scores answers: that of mathematics compares them as numbers."""
    if str(value).endswith("MathRuleRewardWorker"):
        return {"reward.score.type": part("maths")}
    raise Refused("workers of ROLL are not read: `reward` has those that are shipped, and `{type: function}`")


@converter
def roll_dual_clip(value: Any, row: Row, file: File) -> Values:
    """The switch of dual clipping, of which the bound is 1 + twice the clip range."""
    if not on(value):
        raise Needless("it is off")
    clip = file.get("pg_clip")
    return {row.to: round(1 + 2 * (0.2 if clip is None else number(clip)), 12)}


@converter
def loss_share(value: Any, row: Row, file: File) -> Values:
    """A share of distillation in a loss that is also cross-entropy."""
    if number(value) == 1:
        raise Needless("it is all of the loss here, too")
    raise Refused(row.note)


@converter
def async_prompts(value: Any, row: Row, file: File) -> Values:
    """Prompts of an update; a step here is all that verl takes between two transfers of weights."""
    each = whole(value)
    count = each
    for key in ("trigger_parameter_sync_step", "require_batches"):
        count *= whole(file.get(f"async_training.{key}") or 1)
    return {"budget.prompts_per_step": count, row.to: each}


@converter
def async_steps(value: Any, row: Row, file: File) -> Values:
    """Steps: prompts divided by those of a step."""
    prompts = whole(positive(value))
    mini = "actor_rollout_ref.actor.ppo_mini_batch_size"
    step = async_prompts(file.get(mini), row, file)["budget.prompts_per_step"]
    return {row.to: max(1, prompts // step)}


@converter
def async_warmup(value: Any, row: Row, file: File) -> Values:
    """Warm-up in batches that are fetched, times the updates of each."""
    return {row.to: whole(positive(value)) * whole(file.get("async_training.require_batches") or 1)}


@of_value
def stale_share(value: Any) -> Any:
    """A share of rollouts that may be older; here all of a step are."""
    if number_or_zero(value) <= 0:
        raise Needless("0 is the default")
    return ceil(number(value))


@converter
def unread(value: Any, row: Row, file: File) -> Values:
    """A name that has no effect with this trainer."""
    raise Needless(row.note)

"""Distillation from a teacher: its loss, or the credit that it gives to tokens."""

from __future__ import annotations

from typing import Any

from recipec.reading.foreign.converters.places import origin
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    converter,
    number,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part

SEVERAL = "several teachers, or one by a service, are not offered: `reference.from` names one model"
EXACT = (
    "an estimate by the sampled token as a loss is not offered: `gkd` compares whole distributions, and the advantage "
    "`reverse_kl` is the policy gradient of that estimate"
)


@converter
def verl_teacher(value: Any, row: Row, file: File, model: str) -> Values:
    """The distillation of verl, with or without rewards; ``model`` is the name of the teacher's."""
    if not on(value):
        raise Needless("it is off")
    if file.get(model) is None:
        raise Refused(SEVERAL)
    settings = {key: file.get(f"distillation.distillation_loss.{key}") for key in _VERL}
    mode, rewarded = str(settings["loss_mode"]), on(settings["use_task_rewards"])
    clamp = settings["loss_max_clamp"]
    bound = {} if clamp is None else {"clamp": number(clamp)}
    teacher = {row.to: origin(file.get(model))}
    if on(settings["use_policy_gradient"]) and mode in {"k1", "kl"}:
        weight = {"weight": number(settings["distillation_loss_coef"])} if rewarded else {}
        found = {"type": part("teacher_credit"), **weight, **bound}
        return {**teacher, **{f"advantage.teacher.{key}": to for key, to in found.items()}}
    if on(settings["use_policy_gradient"]) or mode != "forward_kl_topk":
        raise Refused(EXACT)
    if rewarded:
        raise Refused("rewards and whole distributions in one loss are not offered: `reverse_kl` is a level of credit")
    found = {"type": part("teacher_loss"), "beta": 0.0, "top_k": whole(settings["topk"]), "temperature": 1.0, **bound}
    return {**teacher, **{f"loss.{key}": to for key, to in found.items()}}


_VERL = (
    "loss_mode", "topk", "use_task_rewards", "use_policy_gradient", "distillation_loss_coef", "loss_max_clamp",
)  # fmt: skip


@converter
def own_samples(value: Any, row: Row, file: File) -> Values:
    """The share of the policy's own samples."""
    if number(value) == 1:
        raise Needless("every answer is sampled")
    raise Refused(
        "own samples and given answers are not mixed: here every answer is sampled; an `sft` stage with the same loss "
        "learns given ones"
    )


@converter
def teacher_of(value: Any, row: Row, file: File) -> Values:
    """A teacher that gives credit to tokens by its log-probabilities."""
    return {row.to: origin(value), "advantage.teacher.type": part("teacher_credit")}


@converter
def floor_of_top_k(value: Any, row: Row, file: File, mode: str) -> Values:
    """A lower bound of log-probabilities, which verl reads with the teacher's likeliest tokens alone."""
    if value is None or file.get(mode) != "forward_kl_topk":
        raise Needless(f"`{mode}` does not read it")
    raise Refused(row.note)

"""Lengths, batches, steps and schedules, which other tools count in other units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recipec.reading.foreign.converters.conditions import divide
from recipec.reading.foreign.converters.plain import above_one, positive
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    converter,
    items_of,
    number,
    number_or_zero,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part

_ROUNDING = 1e-6


@converter
def prompt_length(value: Any, row: Row, file: File, overlong: str = "drop", side: str = "") -> Values:
    """A bound of prompts, beyond which they are dropped or cut."""
    return {row.to: positive(value), "data.overlong": overlong, **({"data.truncation_side": side} if side else {})}


@converter
def length_after(value: Any, row: Row, file: File, prompt: str, data: str) -> Values:
    """A completion's length as what the longest prompt leaves of a sequence, where there is data."""
    if not on(file.get(data)):
        raise Needless(f"`{data}` is not set")
    return {row.to: whole(value) - whole(file.get(prompt) or 0)}


@converter
def length_cut(value: Any, row: Row, file: File, overlong: str = "truncate") -> Values:
    """A bound of examples, beyond which they are cut."""
    return {row.to: positive(value), f"{row.to.rpartition('.')[0]}.overlong": overlong}


@converter
def length_of_texts(value: Any, row: Row, file: File) -> Values:
    """A bound of examples, beyond which they are dropped; raw texts and answers that are scored are cut."""
    texts = file.get("pretraining_dataset") or file.get("pretraining_dataset.path")
    return length_cut(value, row, file, "truncate" if texts or file.kind == "rm" else "drop")


@converter
def length_packed(value: Any, row: Row, file: File) -> Values:
    """The length of the blocks that examples are packed into."""
    return {**length_cut(value, row, file), "data.packing": True}


@converter
def val_share(value: Any, row: Row, file: File) -> Values:
    """The share of the data that is held out, on which the loss, or the margin of pairs, is measured."""
    share = positive(value)
    found = {row.to: share} if share < 1 else {f"{row.to.removesuffix('share')}rows": whole(share)}
    return {**found, "evaluate.held_out.metrics": _held_out_metrics(file)}


def _held_out_metrics(file: File) -> list[str]:
    return ["margin"] if file.kind == "dpo" else ["loss"]


@converter
def eval_split(value: Any, row: Row, file: File, split: str) -> Values:
    """Whether, and on which split, held-out data is evaluated."""
    if not on(value):
        raise Needless("it is off")
    held = file.get("dataset_mixture.test_split_size")
    each: Values = {"evaluate.held_out.per_epoch": 1} if value == "epoch" else {}
    if file.get("dataset_mixture.datasets") is not None:
        if held and each:
            return each
        raise Needless("with `test_split_size`" if held else "no data is held out")
    listed = next((str(item) for item in items_of(file.get("dataset_splits")) if "test" in str(item)), "test")
    found: Values = {f"{row.to}.split": str(file.get(split) or listed), **each}
    return found if file.kind == "rl" else {**found, "evaluate.held_out.metrics": _held_out_metrics(file)}


@of_value
def eval_strategy(value: Any) -> Any:
    """Whether held-out data is evaluated after each epoch, or after a number of steps."""
    if value != "epoch":
        raise Needless("with `eval_steps`" if on(value) else "it is off")
    return 1


@of_value
def keep(value: Any) -> Any:
    """A number of checkpoints: at least 2 are kept."""
    return max(2, whole(positive(value)))


@converter
def epochs(value: Any, row: Row, file: File, steps: str) -> Values:
    """Passes over the data, unless steps are counted."""
    if number_or_zero(file.get(steps)) > 0:
        raise Needless(f"`{steps}` decides")
    if int(number(value)) != number(value) or number(value) < 1:
        raise Refused("a stage has whole epochs: count `budget.steps` instead")
    return {row.to: int(number(value))}


@converter
def warmup(value: Any, row: Row, file: File) -> Values:
    """Updates of warm-up, or a share below 1."""
    count = positive(value)
    return {"optimizer.warmup_ratio": count} if count < 1 else {row.to: whole(count)}


@converter
def save_steps(value: Any, row: Row, file: File, strategy: str, steps: str = "", passes: str = "") -> Values:
    """Steps between checkpoints, where they are counted so; a number below 1 is a share of all steps."""
    if str(file.get(strategy) or "steps") in {"epoch", "no", "best", "False", "false"}:
        raise Needless(f"`{strategy}: {file.get(strategy)}` decides")
    return every(value, row, file, steps, passes)


@converter
def every(value: Any, row: Row, file: File, steps: str, passes: str) -> Values:
    """Steps between checkpoints or evaluations; a number below 1 is a share of all steps."""
    share = number_or_zero(value)
    if not 0 < share < 1:
        return {row.to: positive(value)}
    if number_or_zero(file.get(steps)) > 0:
        return {row.to: max(1, round(share * number(file.get(steps))))}
    times = 1 / (share * (number_or_zero(file.get(passes)) or 1))
    if abs(times - round(times)) > _ROUNDING or round(times) < 1:
        raise Refused("a share of all steps is not offered: count steps")
    return {_PER_EPOCH[row.to]: round(times)}


_PER_EPOCH = {"budget.save_every": "budget.saves_per_epoch", "evaluate.held_out.every": "evaluate.held_out.per_epoch"}


@of_value
def save_strategy(value: Any) -> Any:
    """When checkpoints are saved: after each epoch, or as another name counts."""
    if str(value) == "epoch":
        return 1
    raise Needless("checkpoints are counted in steps (`budget.save_every`), and the end of a stage is always saved")


@of_value
def per_epoch(value: Any) -> Any:
    """Epochs between checkpoints or evaluations, of which there are whole numbers in each."""
    found = positive(value)
    if found > 1 or abs(1 / found - round(1 / found)) > _ROUNDING:
        raise Refused("they are counted in steps, or several times in an epoch")
    return round(1 / found)


@converter
def checkpointing(value: Any, row: Row, file: File) -> Values:
    """Steps between checkpoints, or `epoch`."""
    if str(value) == "epoch":
        return {"budget.saves_per_epoch": 1}
    return {row.to: positive(value)}


@converter
def lr_kwargs(value: Any, row: Row, file: File) -> Values:
    """Arguments of a schedule: its lowest rate."""
    if not isinstance(value, Mapping) or not value:
        raise Needless("it is empty")
    share = value.get("min_lr_rate", value.get("min_lr_ratio"))
    if share is None and value.get("min_lr") is not None and number_or_zero(file.get("learning_rate")):
        share = number(value["min_lr"]) / number(file.get("learning_rate"))
    if share is None:
        raise Refused(f"arguments of the schedule: {', '.join(map(str, value))}")
    return {row.to: number(share)}


@converter
def zero_file(value: Any, row: Row, file: File) -> Values:
    """A ZeRO stage, by the name of its file."""
    if not value:
        raise Needless("it is not set")
    found = re.search(r"(?:zero|z|stage)_?([0-3])", str(value).lower()) if isinstance(value, str) else None
    if found is None:
        raise Refused("the ZeRO stage is not in the name of its file: write `machine.train.zero`")
    if int(found[1]) == 0:
        raise Needless("ZeRO stage 0 shards nothing")
    return {"machine.train.type": part("zero"), row.to: int(found[1])}


@converter
def zero(value: Any, row: Row, file: File) -> Values:
    """A ZeRO stage."""
    if whole(value) == 0:
        raise Needless("ZeRO stage 0 shards nothing")
    return {"machine.train.type": part("zero"), row.to: whole(value)}


@converter
def offload(value: Any, row: Row, file: File, strategy: str) -> Values:
    """Offloading of the optimizer, under a strategy that has it."""
    if not on(value):
        raise Needless("it is off")
    return {"machine.train.type": part(strategy), row.to: True}


def _product(file: File, *keys: str) -> int:
    total = file.devices
    for key in keys:
        total *= whole(file.get(key) or 1)
    return total


@converter
def nodes(value: Any, row: Row, file: File) -> Values:
    """A number of nodes, which something must start."""
    return {row.to: above_one(value), "machine.launcher": "ray"}


@converter
def hf_batch(value: Any, row: Row, file: File) -> Values:
    """Rows of a step: batch of a device, accumulation and devices multiplied."""
    return {row.to: _product(file, "per_device_train_batch_size", "gradient_accumulation_steps")}


@converter
def axolotl_batch(value: Any, row: Row, file: File) -> Values:
    """Rows of a step: micro-batch, accumulation and devices multiplied."""
    return {row.to: _product(file, "micro_batch_size", "gradient_accumulation_steps")}


@converter
def axolotl_prompts(value: Any, row: Row, file: File) -> Values:
    """Prompts of a step: completions divided by those of a prompt."""
    count = _product(file, "micro_batch_size", "gradient_accumulation_steps")
    return {row.to: divide(count, whole(file.get("trl.num_generations") or 8), "trl.num_generations")}


@converter
def trl_prompts(value: Any, row: Row, file: File) -> Values:
    """Prompts that TRL samples before it trains: completions divided by those of a prompt."""
    updated = _product(file, "per_device_train_batch_size", "gradient_accumulation_steps")
    per_step = file.get("steps_per_generation")
    total = whole(file.get("generation_batch_size") or 0)
    if not total:
        total = _product(file, "per_device_train_batch_size") * whole(per_step) if per_step else updated
    each = whole(file.get("num_generations") or 8)
    found: Values = {row.to: divide(total, each, "num_generations")}
    if total > updated:
        found["budget.updates_per_step"] = divide(total, updated, "the completions of one update")
    return found


@converter
def trl_updates(value: Any, row: Row, file: File) -> Values:
    """Updates of one generation, reported with the prompts of a step."""
    each = whole(file.get("gradient_accumulation_steps") or 1)
    if whole(value) <= each:
        raise Needless("one update follows each generation")
    raise Needless("with the prompts of a step")


@converter
def trl_steps(value: Any, row: Row, file: File) -> Values:
    """Steps: TRL counts updates, of which a step here may hold several."""
    if number_or_zero(value) <= 0:
        raise Needless("epochs decide")
    accumulated = whole(file.get("gradient_accumulation_steps") or 1)
    updated = _product(file, "per_device_train_batch_size") * accumulated
    generated = whole(file.get("generation_batch_size") or 0)
    per_step = (
        generated // updated if generated else whole(file.get("steps_per_generation") or accumulated) // accumulated
    )
    updates = max(1, per_step) * whole(file.get("num_iterations") or 1)
    return {row.to: -(-whole(value) // updates)}


@converter
def roll_batch(value: Any, row: Row, file: File) -> Values:
    """Rows of an update: batch of a replica, accumulation and replicas multiplied."""
    worker = row.name.partition(".")[0]
    spread = 1
    for size in ("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size"):
        spread *= whole(file.get(f"{worker}.strategy_args.strategy_config.{size}") or 1)
    places = re.fullmatch(r"list\(range\((\d+), *(\d+)\)\)", str(file.get(f"{worker}.device_mapping")))
    devices = int(places[2]) - int(places[1]) if places else file.devices * spread
    count = max(1, devices // spread)
    for size in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        count *= whole(file.get(f"{worker}.training_args.{size}") or 1)
    return {row.to: count}


@converter
def rows_per_update(value: Any, row: Row, file: File) -> Values:
    """Rows of an update, where a step has more."""
    prompts, samples = file.get("rollout.batch_size"), file.get("rollout.n_samples_per_prompt")
    if whole(value) >= whole(prompts or 1) * whole(samples or 1):
        raise Needless("one update takes all rows of a step")
    return {row.to: whole(value)}


@converter
def verl_minibatch(value: Any, row: Row, file: File) -> Values:
    """Prompts of an update; more than those of a step can only be rows, as some forks count."""
    prompts = whole(file.get("data.train_batch_size") or value)
    if whole(value) <= prompts:
        return {row.to: whole(value)}
    if whole(value) >= prompts * whole(file.get("actor_rollout_ref.rollout.n") or 1):
        raise Needless("one update takes all rows of a step")
    return {"budget.rows_per_update": whole(value)}


@converter
def open_instruct_steps(value: Any, row: Row, file: File) -> Values:
    """Steps: completions divided by those of a step."""
    each = whole(file.get("num_unique_prompts_rollout") or 1) * whole(file.get("num_samples_per_prompt_rollout") or 1)
    return {row.to: max(1, whole(value) // each)}


@converter
def ppo_steps(value: Any, row: Row, file: File) -> Values:
    """Steps: completions divided by those of a batch of TRL's PPO."""
    each = file.devices
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps", "num_mini_batches"):
        each *= whole(file.get(name) or 1)
    return {row.to: max(1, whole(value) // each)}


@converter
def open_instruct_filter(value: Any, row: Row, file: File) -> Values:
    """Groups of equal rewards, which leave the batch."""
    if on(value) and not on(file.get("active_sampling")):
        return {row.to: "drop"}
    raise Needless("`active_sampling` decides")


@converter
def verl_warmup(value: Any, row: Row, file: File) -> Values:
    """Warm-up in rollouts, times the updates of each."""
    warm = whole(positive(value))
    prompts = whole(file.get("data.train_batch_size") or 1)
    taken = whole(file.get("actor_rollout_ref.actor.ppo_mini_batch_size") or prompts)
    updates = max(1, -(-prompts // taken)) * whole(file.get("actor_rollout_ref.actor.ppo_epochs") or 1)
    return {row.to: warm * updates}

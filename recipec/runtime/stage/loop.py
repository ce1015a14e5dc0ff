"""The one training loop: GRPO, SFT and DPO differ in their rows, not here.

A step draws tasks, walks the graph's nodes of the step over the whole batch, then takes the updates:
each pass cuts the batch into minibatches, each minibatch is one call of the engine.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from recipec.diagnostics.errors import run as errors, run_progress as progress_errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Loop, Node, StageGraph, Value
from recipec.runtime.batch import Batch
from recipec.runtime.graph_runner import METRIC, Values, arguments
from recipec.runtime.logging import statistics
from recipec.runtime.logging.learning_watch import LearningWatch
from recipec.runtime.logging.sampler_gap import MAX, MEAN
from recipec.runtime.objective.cached_reference import CachedReference
from recipec.runtime.stage import group_filter, rollout_log
from recipec.runtime.stage.resume import restore, save
from recipec.runtime.stage.running_stage import RunningStage
from recipec.runtime.training.minibatch import minibatches, updates_per_step
from recipec.spec.advantage import Advantage
from recipec.spec.recipe import PAIRED_KINDS, UNIT

_COLUMNS_OF_EVERY_BATCH = {"attend_RT", "by_prompt_R", "by_pair_R", "prompt_id_R", "sampler_logprob_RT"}
"""Columns that updates have in addition to those that their nodes read."""


def run_loop(stage: RunningStage) -> bool:
    """Run a stage to its end, or until stopped; return whether it ended.

    Raises:
        RecipeError: what went wrong; everything up to the last checkpoint is kept.
    """
    step_nodes, update_nodes = nodes_of(stage.graph.loop)
    _begin_engines(stage)
    fill_reference_cache(stage, step_nodes)
    total = total_steps(stage)
    if stage.lookahead is not None:
        stage.lookahead.begin(total, partial(draw, stage))
    continued = restore(stage)
    if continued and stage.graph.kind == "rl":
        stage.weight_transfer.update(stage.step)
    epoch = _steps_per_epoch(stage)
    if not continued and (before := stage.evaluate(0, total, epoch)):
        stage.metrics_writer.write(0, before)
    stage.observers.begun()
    watch = LearningWatch(stage.graph.name, groups=compares_groups(stage.graph))
    watch.follow(stage.metrics_writer.lines() if continued else ())
    every = _steps_per_checkpoint(stage, total, epoch)
    while stage.step < total:
        if stage.context.ranks.any(stage.observers.stopped()) or should_stop_early(stage, watch):
            save(stage)
            return False
        began = time.monotonic()
        metrics = one_step(stage, step_nodes, update_nodes)
        stage.counters.step += 1
        metrics["seconds/step"] = time.monotonic() - began
        metrics |= stage.evaluate(stage.step, total, epoch)
        stage.metrics_writer.write(stage.step, metrics)
        stage.observers.progress.step(stage.graph.name, stage.step, total, metrics)
        for warning in watch.step(metrics):
            stage.observers.warn(warning)
            stage.context.say(f"warning[{warning.code}]: {warning.message}")
        if stage.step % every == 0 or stage.step == total:
            save(stage)
    stage.metrics_writer.complete()
    return True


def _begin_engines(stage: RunningStage) -> None:
    """Give the training engines the number of updates of their schedules."""
    planned = planned_updates(stage)
    stage.train_engine.begin(max(1, planned - critic_updates(stage)))
    if stage.critic is not None:
        stage.critic.engine.begin(planned)


def _steps_per_checkpoint(stage: RunningStage, total: int, epoch: int) -> int:
    if per_epoch := stage.budget.get("saves_per_epoch"):
        return max(1, epoch // int(per_epoch))
    return int(stage.budget.get("save_every") or max(1, total // 10))


def compares_groups(graph: StageGraph) -> bool:
    """Whether a level of the advantage compares the rows of a group."""
    return any(isinstance(node.spec, Advantage) and node.spec.compares is not None for node in graph.nodes())


def should_stop_early(stage: RunningStage, watch: LearningWatch) -> bool:
    """Whether the last steps show a condition that the recipe stops at; then it is reported, as an error."""
    conditions = stage.budget.get("stop_when") or ()
    condition = stage.context.ranks.on_leader(lambda: watch.holding(conditions)) if conditions else ""
    if condition:
        stage.observers.warn(progress_errors.stopped_learning(stage.graph.name, stage.step, condition))
    return bool(condition)


def total_steps(stage: RunningStage) -> int:
    """Return the number of steps that the budget gives the stage's data."""
    return int(stage.budget.get("steps") or stage.budget["epochs"] * _steps_per_epoch(stage))


def _steps_per_epoch(stage: RunningStage) -> int:
    rows = len(stage.source)
    return rows // stage.per_step if stage.budget.get("remainder") == "drop" else -(-rows // stage.per_step)


def planned_updates(stage: RunningStage) -> int:
    """Return the number of updates that the learning-rate schedule is laid out for.

    Raises:
        RecipeError: RC767, the data has less than one step and short steps are dropped.
    """
    budget, rows = stage.budget, len(stage.source)
    unit = UNIT[stage.graph.kind]
    if rows == 0 or (budget.get("remainder") == "drop" and rows < int(budget[unit])):
        raise RecipeError(errors.nothing_to_do(stage.graph.name, rows, int(budget[unit])))
    total, each = total_steps(stage), _rows_per_unit(stage)
    updates = total * updates_per_step(budget, stage.per_step, each)
    last = rows % stage.per_step
    short_ends = budget.get("remainder") == "keep" and group_filter.resampling(stage.graph.loop) is None
    if last and short_ends:  # the last step of each epoch is a short one
        short = updates_per_step(budget, last, each) - updates_per_step(budget, stage.per_step, each)
        updates += total // _steps_per_epoch(stage) * short
    return updates


def critic_updates(stage: RunningStage) -> int:
    """Return the number of updates that the critic takes before the policy takes any."""
    warmup = 0 if stage.critic is None else stage.critic.spec.warmup_steps
    return int(warmup) * updates_per_step(stage.budget, stage.per_step, _rows_per_unit(stage))


def _rows_per_unit(stage: RunningStage) -> int:
    """Rows of a prompt, as if each of its episodes were one; of a pair; of an example."""
    return 2 if stage.graph.kind in PAIRED_KINDS else int(stage.graph.settings.get("num_generations") or 1)


def nodes_of(loop: Loop) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """Return the nodes of a step, those of its resampling loop among them, and the nodes of an update."""
    *before, update = loop.body
    assert isinstance(update, Loop)
    in_step = (node for item in before for node in (item.body if isinstance(item, Loop) else (item,)))
    return tuple(n for n in in_step if isinstance(n, Node)), tuple(n for n in update.body if isinstance(n, Node))


def fill_reference_cache(stage: RunningStage, step_nodes: tuple[Node, ...]) -> None:
    """Let the policy as it enters the stage fill the cache of its reference, where the compiler chose one."""
    for place, node in enumerate(step_nodes):
        cache = stage.runner.instances.get(node.id)
        if not isinstance(cache, CachedReference):
            continue
        stage.policy.eval()
        for columns in planned_draws(stage):
            values: Values = dict(stage.values)
            source = data_node(stage, columns)
            values |= {Value(signal, source.id): column for signal, column in columns.items()}
            stage.runner.run([n for n in step_nodes[:place] if n.id != source.id], values)
            cache.fill(**arguments(node, values))


def planned_draws(stage: RunningStage) -> Iterator[dict[str, Any]]:
    """Yield every row once, a step at a time; only those that the stage will draw where it ends within an epoch."""
    total = total_steps(stage)
    if total * stage.per_step >= len(stage.source):
        yield from stage.source.slices(stage.per_step)
        return
    begin = stage.source.state()
    for _ in range(total):
        yield draw(stage)
    stage.source.load(begin)


def data_node(stage: RunningStage, columns: Mapping[str, Any]) -> Node:
    """Return the node that the drawn columns belong to: the preference if the stage has one, else the data."""
    nodes = sorted(stage.graph.nodes(), key=lambda node: node.slot != "preference")
    return next(n for n in nodes if n.slot in {"data", "preference"} and set(n.outputs) & set(columns))


def draw(stage: RunningStage) -> dict[str, Any]:
    """Take the next tasks; a short step at the end of an epoch is kept, skipped or filled up."""
    drawn: dict[str, Any] = stage.source.draw(stage.per_step)
    short = max(0, stage.per_step - len(next(iter(drawn.values()))))  # a step of blocks has more rows
    remainder = stage.budget.get("remainder")
    if short and remainder == "drop":
        drawn = stage.source.draw(stage.per_step)
    elif short and remainder == "copy":
        more = stage.source.draw(short)
        drawn = {name: [*column, *more[name]] for name, column in drawn.items()}
    return drawn


def one_step(stage: RunningStage, step_nodes: tuple[Node, ...], update_nodes: tuple[Node, ...]) -> dict[str, float]:
    """Walk the step's nodes over a fresh batch, then take its updates; return the step's metrics."""
    values: Values = dict(stage.values)
    stage.policy.eval()
    began = time.monotonic()
    drawn, ahead = (draw(stage), {}) if stage.lookahead is None else stage.lookahead.take(stage.step)
    source = data_node(stage, drawn)
    values |= {Value(signal, source.id): column for signal, column in drawn.items()}
    walked = [node for node in step_nodes if node.id != source.id]
    metrics: dict[str, float] = {}
    if ahead:
        sampler = next(node for node in walked if node.slot == "sampler")
        values |= {Value(signal, sampler.id): ahead[signal] for signal in sampler.outputs}
        metrics |= {name.removeprefix(METRIC): ahead[name] for name in ahead if name.startswith(METRIC)}
        walked.remove(sampler)
    rollout_log.begin(stage, walked)
    with torch.no_grad():
        sampled = group_filter.run(stage, walked, values, rollout_log.rows_path(stage))
        metrics |= {k: float(v) for k, v in sampled.items()}
    metrics["seconds/rollout"] = time.monotonic() - began
    batch = build_batch(values, update_nodes)
    metrics |= statistics.of_rewards(values, walked) | statistics.of_groups(values, walked)
    metrics |= statistics.of_staleness(values, stage.step)
    rollout_log.keep(stage, values, walked)
    began = time.monotonic()
    stage.runner.step_values = values
    metrics |= run_updates(stage, batch, update_nodes)
    stage.runner.step_values = {}
    metrics["seconds/update"] = time.monotonic() - began
    tokens = int(batch["attend_RT"].sum())
    stage.counters.tokens += tokens
    metrics["num_tokens"] = stage.counters.tokens
    metrics["rate/tokens_per_second"] = tokens / (metrics["seconds/rollout"] + metrics["seconds/update"])
    return metrics


def build_batch(values: Values, update_nodes: tuple[Node, ...]) -> Batch:
    """Collect the columns that the updates read, and those that minibatches are cut by."""
    inside = {node.id for node in update_nodes}
    batch = Batch()
    for node in update_nodes:
        for column_input in node.inputs:
            if column_input.value.node not in inside:
                batch[column_input.value.signal] = values[column_input.value]
    for value, column in values.items():
        if value.signal in _COLUMNS_OF_EVERY_BATCH:
            batch.setdefault(value.signal, column)
    batch.check()
    return batch


def run_updates(stage: RunningStage, batch: Batch, update_nodes: tuple[Node, ...]) -> dict[str, float]:
    """Take every update of a step; metrics are means over them."""
    stage.weight_transfer.sleep()
    stage.policy.train()
    cuts = _minibatches(stage, batch)
    critic_nodes = tuple(node for node in update_nodes if node.of_critic)
    policy_nodes = tuple(node for node in update_nodes if not node.of_critic)
    metrics = [_one_update(stage, batch.rows(index), critic_nodes, policy_nodes) for index in cuts]
    if stage.graph.kind == "rl" and stage.lookahead is None:
        stage.weight_transfer.update(stage.step + 1)
    # the gap between engines is that of the first update: later ones differ by the updates too
    first = {name: metrics[0][name] for name in (MEAN, MAX) if name in metrics[0]}
    return statistics.mean(metrics) | first | stage.weight_transfer.metrics


def _minibatches(stage: RunningStage, batch: Batch) -> list[torch.Tensor]:
    """Cut a batch into the rows of each update, and set the pace of the schedules to their number."""
    kind, budget = stage.graph.kind, stage.budget
    if kind == "sft" and "by_pair_R" in batch:  # an example has a row of its own and a mismatched one
        budget = {**budget, "prompts_per_update": budget["rows_per_update"], "rows_per_update": None}
    unit_R = batch["by_prompt_R"] if kind == "rl" else batch.get("by_pair_R", torch.arange(batch.num_rows))
    keys = [(stage.context.seed, stage.graph.name, stage.step, i) for i in range(int(stage.budget.get("passes", 1)))]
    cuts = [index for key in keys for index in minibatches(unit_R, budget, key)]
    if kind == "rl":  # rows that are steps of episodes make more updates than the schedule was laid out for
        planned = updates_per_step(stage.budget, len(unit_R.unique()), _rows_per_unit(stage))
        for engine in stage.engines():
            engine.set_pace(planned / max(1, len(cuts)))
    return cuts


def _one_update(
    stage: RunningStage, minibatch: Batch, critic_nodes: tuple[Node, ...], policy_nodes: tuple[Node, ...]
) -> dict[str, float]:
    """Update the critic, then the policy unless the critic still warms up."""
    limits: dict[str, Any] = {"tokens": int(stage.budget["microbatch_tokens"]), "step": stage.step}
    metrics: dict[str, float] = {}
    if stage.critic is not None:
        metrics = stage.critic.update(minibatch, critic_nodes, stage.runner, **limits)
    if stage.critic is None or stage.step >= stage.critic.spec.warmup_steps:
        metrics |= stage.train_engine.update(minibatch, policy_nodes, stage.runner, **limits)
        for _, part in stage.parts():
            part.after_update(stage.train_engine.updates)
    return metrics

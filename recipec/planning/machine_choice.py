"""What `auto` stands for in a machine, a budget and an attention, and which change lets a stage fit: by a plan."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recipec.component import Component
from recipec.graph import Graph, Node, StageGraph
from recipec.planning.cost import amount
from recipec.planning.memory import memory, peak, training
from recipec.planning.model_shapes import Shape
from recipec.planning.sharing import Sharing
from recipec.planning.stage_workload import CUDA_GRAPH_BYTES, StageWorkload, workload_of
from recipec.spec.attention import Auto
from recipec.spec.machine import ENGINE_SLOTS
from recipec.spec.recipe import MICROBATCH, PAIRED_KINDS
from recipec.spec.rollout_engine import SHARE, RolloutEngine
from recipec.spec.sampler import Sampler
from recipec.spec.train_engine import TrainEngine

USABLE = 0.9
"""Share of a device's memory that choices fill: vLLM's own default."""
MOST_TOKENS = 1 << 17
"""Largest forward pass that is chosen: more tokens save no time."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A value chosen for `auto`.

    Example: ``Choice("machine.train.zero", 2, "lowest stage that fits: 61 GB of 80 GB")``.
    """

    key: str
    value: int | float
    reason: str


def choose(graph: Graph, shapes: Mapping[str, Shape | None]) -> tuple[Graph, dict[str, tuple[Choice, ...]]]:
    """Replace every `auto` of the machine and of budgets by a value, in each stage, and say why."""
    choices: dict[str, tuple[Choice, ...]] = {}
    for stage in graph.stages:
        shape = shapes.get(stage.name)
        work = None if shape is None else workload_of(graph, stage, shape)
        choices[stage.name] = tuple(_chosen(stage, work))
    return apply(graph, choices), choices


def apply(graph: Graph, chosen: Mapping[str, Sequence[Choice]]) -> Graph:
    """Write the choices of stages into a graph."""
    return replace(graph, stages=tuple(_applied(stage, chosen.get(stage.name, ())) for stage in graph.stages))


def _applied(stage: StageGraph, chosen: Sequence[Choice]) -> StageGraph:
    for one in chosen:
        place, _, name = one.key.rpartition(".")
        if place == "budget":
            stage = _with_budget(stage, name, one.value)
        else:
            node = stage.node(ENGINE_SLOTS[place.rpartition(".")[2]])
            assert node is not None, "every stage has one"
            assert node.spec is not None, "a compiled graph has its specs"
            changed = node.spec.model_copy(update={name: one.value})
            stage = _with_spec(stage, node.slot, changed, {name: one.value, "reason": one.reason})
    return stage


def choose_attention(graph: Graph, sharing: Mapping[str, Sharing | None]) -> Graph:
    """Decide which attention computes each stage, where the recipe alone fixes how much its samples share.

    The choice and its reason are in ``decided`` of the stage's attention node.  Where sharing depends on what is
    sampled nothing is decided here, and the first samples of the run decide.
    """
    return replace(graph, stages=tuple(_with_attention(stage, sharing.get(stage.name)) for stage in graph.stages))


def _with_attention(stage: StageGraph, sharing: Sharing | None) -> StageGraph:
    if stage.required(TrainEngine).sequence_partitions() > 1:
        decided = {"choice": "packed", "reason": "the tokens of a row are spread over devices"}
    elif sharing is None or not sharing.fixed:
        return stage
    else:
        decided = {"choice": sharing.best, "reason": sharing.reason}

    def decide(node: Node) -> Node:
        return replace(node, decided=decided) if isinstance(node.spec, Auto) else node

    return replace(stage, setup=tuple(decide(node) for node in stage.setup))


def _chosen(stage: StageGraph, work: StageWorkload | None) -> Iterator[Choice]:
    """Choose the training engine with the smallest forward pass, then the largest forward pass that fits."""
    auto = isinstance(stage.settings["budget"]["microbatch_tokens"], str)
    if work is None or work.accelerator is None:
        unknown = "the sizes of the model are not known" if work is None else "no `machine.accelerator` is named"
        yield from _unknown(stage, unknown)
        return
    fills = work.rollout.fills_rest()
    if fills:
        work = _with_share(work, _least_share(work))
    if auto:
        work = _with_tokens(work, _longest(work))
    tried = [(name, value, _with_train(work, engine)) for name, value, engine in work.train.alternatives()]
    if tried:
        name, value, work = next((one for one in tried if fits(one[2])), tried[-1])
        reason = f"{'the lowest that fits' if fits(work) else 'none fits, this one needs least'}: {_full(work)}"
        yield Choice(f"machine.train.{name}", value, reason)
    if auto:
        tokens = _microbatch(work)
        yield tokens
        work = _with_tokens(work, int(tokens.value))
    if fills:
        yield _share(work)


def _unknown(stage: StageGraph, why: str) -> Iterator[Choice]:
    """Choose where memory cannot be counted."""
    for name, value, _ in stage.required(TrainEngine).alternatives()[-1:]:
        yield Choice(f"machine.train.{name}", value, f"the one that needs least memory: {why}")
    if isinstance(stage.settings["budget"]["microbatch_tokens"], str):
        yield Choice("budget.microbatch_tokens", MICROBATCH, f"the default: {why}")
    if stage.required(RolloutEngine).fills_rest():
        yield Choice("machine.rollout.memory", SHARE, f"the default: {why}")


def _share(work: StageWorkload) -> Choice:
    """Choose the rollout engine's share: what training leaves, in hundredths, and no less than a group needs."""
    if work.rollout.apart():
        return Choice("machine.rollout.memory", USABLE, "nothing else is on the devices of a server")
    share, least = _left(work), _least_share(work)
    note = f"what training leaves of {USABLE:.0%}" if share >= least else "training leaves less than a group needs"
    chosen = max(share, least)
    return Choice("machine.rollout.memory", chosen, f"{note}: {_full(_with_share(work, chosen))} in all")


def _left(work: StageWorkload) -> float:
    """Return the share of a device that training leaves: of what is always there where the engine sleeps."""
    assert work.accelerator is not None
    holdings = list(training(work))
    always = sum(one.bytes or 0.0 for one in holdings if one.when == "always")
    used = always if work.rollout.sleeps() else peak(holdings)[0]
    return math.floor(100 * (USABLE - used / work.accelerator.memory)) / 100


def _least_share(work: StageWorkload) -> float:
    """Return the share that weights, graphs, and keys and values of one group need."""
    assert work.accelerator is not None
    sampler = work.stage.spec(Sampler)
    group = 1 if sampler is None else sampler.branches()[0]
    needed = work.rollout_weight_bytes + CUDA_GRAPH_BYTES + group * work.kv_bytes_per_row
    return min(USABLE, math.ceil(100 * needed / work.accelerator.memory) / 100)


def _microbatch(work: StageWorkload) -> Choice:
    """Choose the largest power of two that fits, no more than a step has for each device."""
    least = size = _longest(work)
    tokens_per_rank = -(-work.size.rows * (work.size.row or 0) // work.data_parallel_size)
    best = _with_tokens(work, least)
    power = 1 << least.bit_length()
    while power <= MOST_TOKENS and power < 2 * tokens_per_rank and fits(at := _with_tokens(work, power)):
        best, size, power = at, power, 2 * power
    note = "the largest that fits" if fits(best) else "the longest row, which does not fit"
    return Choice("budget.microbatch_tokens", size, f"{note}: {_full(best)}")


def _longest(work: StageWorkload) -> int:
    """Return the tokens of the smallest forward pass: a row, or a pair."""
    return max(1, (work.size.row or 1) * (2 if work.stage.kind in PAIRED_KINDS else 1))


def fits(work: StageWorkload, share: float = USABLE) -> bool:
    """Whether a device has memory for the stage; true where its size is not known."""
    return work.accelerator is None or peak(memory(work))[0] <= share * work.accelerator.memory


def _full(work: StageWorkload) -> str:
    assert work.accelerator is not None
    return f"{amount(peak(memory(work))[0], 'B')} of {amount(work.accelerator.memory, 'B')}"


def remedies(work: StageWorkload) -> Iterator[tuple[tuple[str, ...], StageWorkload]]:
    """Yield changes that save memory, each with those before it: what the recipe would say, and the stage with them."""
    changes: list[str] = []
    share = work.rollout.memory_share()
    if share is not None and work.accelerator is not None and work.samples and not work.rollout.apart():
        less = max(_left(work), _least_share(work))
        if less < share:
            changes.append(f"machine.rollout.memory: {less:g}")
            work = _with_share(work, less)
            yield tuple(changes), work
    while (leaner := work.train.leaner(work.ranks)) is not None:
        changes.append(f"machine.train.{leaner[0]}")
        work = _with_train(work, leaner[1])
        yield tuple(changes), work
    while (tokens := work.microbatch // 2) >= _longest(work):
        work = _with_tokens(work, tokens)
        yield (*changes, f"budget.microbatch_tokens: {tokens}"), work


def _with_share(work: StageWorkload, share: float) -> StageWorkload:
    engine = work.rollout.with_share(share)
    return work if engine is None else replace(work, stage=_with_spec(work.stage, "rollout_engine", engine))


def _with_train(work: StageWorkload, engine: Component) -> StageWorkload:
    return replace(work, stage=_with_spec(work.stage, "train_engine", engine))


def _with_tokens(work: StageWorkload, tokens: int) -> StageWorkload:
    return replace(work, stage=_with_budget(work.stage, "microbatch_tokens", tokens))


def _with_spec(stage: StageGraph, slot: str, spec: Component, decided: Mapping[str, Any] | None = None) -> StageGraph:
    def changed(node: Node) -> Node:
        return replace(node, spec=spec, decided={**node.decided, **(decided or {})}) if node.slot == slot else node

    return replace(stage, setup=tuple(changed(node) for node in stage.setup))


def _with_budget(stage: StageGraph, name: str, value: float) -> StageGraph:
    return replace(stage, settings={**stage.settings, "budget": {**stage.settings["budget"], name: value}})

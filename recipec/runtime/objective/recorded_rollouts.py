"""Credit of recorded rows, without a model: a stage's nodes between its rewards and its credit, walked as in a run.

Rows come as a user writes them, or as a run kept them (:mod:`recipec.runtime.data.recorded` reads both).
Rows that a run kept are credited one training step at a time, since groups never reach across steps.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from recipec.diagnostics.errors import credit as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph, Input, Node, StageGraph, Value
from recipec.runtime.context import StageContext
from recipec.runtime.data.recorded import KEPT, Recorded, columns_of, need, read_recorded
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.objective.grouping import state_key, state_text
from recipec.spec.grouping import AnchorState

GIVEN = Value("reward_R", "recorded")
_WALKED = ("compiler", "grouping", "advantage")
_GROUPS = ("by_prompt_R", "by_tree_R", "by_episode_R", "by_anchor_R")


@dataclass(frozen=True, slots=True)
class Slice:
    """The nodes of one stage that credit is made of, in order, and the columns of rows that they read."""

    nodes: tuple[Node, ...]
    sampler: str
    reads: frozenset[str]
    stepwise: bool
    levels: Mapping[str, Value]
    """Level name to the value that holds its credit."""
    total: Value
    groups: Mapping[str, Value]

    @property
    def per_token(self) -> bool:
        """Whether tokens are credited, and not rows."""
        return self.total.signal == "advantage_RT"


def credit(graph: Graph, rows: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """Credit recorded rows as a stage of a recipe would; return each row's mapping with what was found out about it.

    Added are ``advantage``, ``levels`` (by name; in ``sum`` they add up to it), ``groups`` (signal to id, numbered by
    first row) and, where tokens are credited, ``advantage_T``.

    Raises:
        RecipeError: RC797 no rows or an invalid row, RC798 the recipe has no such stage, RC799 a row lacks what the
            recipe asks for, RC796 its state cannot be compared.
    """
    recorded = read_recorded(rows)
    part = slice_of(find_stage(graph, stage))
    batches: dict[Any, list[int]] = {}
    for place, row in enumerate(recorded):
        batches.setdefault(row.batch, []).append(place)
    credited_rows: list[dict[str, Any]] = [{} for _ in recorded]
    numbers: dict[str, dict[Any, int]] = {}
    for batch, places in batches.items():
        credited = _credited(part, [recorded[place] for place in places], batch, numbers, graph.seed)
        for place, one in zip(places, credited, strict=True):
            credited_rows[place] = {**recorded[place].fields, **one}
    return credited_rows


def find_stage(graph: Graph, name: str | None) -> StageGraph:
    """Find the stage that is meant: the one named, or the only one with credit.

    Raises:
        RecipeError: RC798.
    """
    names = [stage.name for stage in graph.stages if stage.kind == "rl"]
    if (name is None and len(names) != 1) or (name is not None and name not in names):
        raise RecipeError(errors.which_stage(name, names, "rl stage"))
    return graph.stage(name or names[0])


def slice_of(stage: StageGraph) -> Slice:
    """Find what credit is made of: backwards from the sum of its levels to the rewards and the sampler.

    Raises:
        RecipeError: RC799, something on the way takes a model or an environment.
    """
    nodes = {node.id: node for node in stage.nodes()}
    sampler = next(node for node in nodes.values() if node.slot == "sampler")
    summed = nodes[f"{stage.name}/sum.reward_R"]
    own = tuple(column for column in summed.inputs if not column.parameter.startswith("*"))
    nodes[summed.id] = replace(summed, inputs=(*own, Input("*reward_R", GIVEN)), params={"weights": [1.0]})
    named = [f"{what}.{of}" for of in ("advantage_RT", "advantage_R") for what in ("clip", "whiten", "sum")]
    total = next(nodes[f"{stage.name}/{node}"] for node in named if f"{stage.name}/{node}" in nodes)
    walked, columns = _walked_back(nodes, {total.id, summed.id}, sampler.id)
    # the sum of rewards has a default for the columns of episodes
    reads = frozenset(column.signal for node, column in columns if node != summed.id)
    levels = {node.level: Value(node.outputs[0], node.id) for node in walked if node.level}
    makers = {signal: node.id for node in walked for signal in node.outputs}
    makers |= dict.fromkeys(reads, sampler.id)
    groups = {signal: Value(signal, makers[signal]) for signal in _GROUPS if signal in makers}
    stepwise = sampler.params["rows"] == "step"
    return Slice(walked, sampler.id, reads, stepwise, levels, Value(total.outputs[0], total.id), groups)


def _walked_back(
    nodes: Mapping[str, Node], ends: Collection[str], sampler: str
) -> tuple[tuple[Node, ...], list[tuple[str, Value]]]:
    """Return the nodes on the way to ``ends``, in order, and the columns of recorded rows that each of them reads."""
    wanted, columns = set(ends), list[tuple[str, Value]]()
    for node in reversed(list(nodes.values())):
        if node.id not in wanted:
            continue
        for value in (column.value for column in node.inputs):
            if value.node == sampler and value.signal in KEPT:
                columns.append((node.id, value))
            elif value.node not in {sampler, GIVEN.node} and {nodes[value.node].slot, node.slot} <= set(_WALKED):
                wanted.add(value.node)
            elif value != GIVEN:
                raise RecipeError(errors.column_missing("", 0, value.signal))
    return tuple(node for node in nodes.values() if node.id in wanted), columns


def _credited(
    part: Slice, rows: Sequence[Recorded], batch: Any, numbers: dict[str, dict[Any, int]], seed: int
) -> Iterator[dict[str, Any]]:
    """Walk one batch of rows and yield what was found out about each."""
    need(rows, part.reads, stepwise=part.stepwise, penalised=_penalised(part.nodes))
    _comparable(part.nodes, rows)
    columns = columns_of(rows, part.reads)
    values: Values = {Value(signal, part.sampler): column for signal, column in columns.items()}
    values[GIVEN] = torch.tensor([row.reward for row in rows], dtype=torch.float64)
    with torch.no_grad():
        GraphRunner(StageContext(Path(), Path(), seed, "")).run(part.nodes, values)
    levels = {name: _rows(values[value], columns) for name, value in part.levels.items()}
    total = _rows(values[part.total], columns)
    groups = {signal: values[value].tolist() for signal, value in part.groups.items()}
    for place in range(len(rows)):
        ids = {
            signal: numbers.setdefault(signal, {}).setdefault((batch, ids[place]), len(numbers[signal]))
            for signal, ids in groups.items()
        }
        line = {
            "advantage": _mean(total[place]),
            "levels": {name: _mean(level[place]) for name, level in levels.items()},
            "groups": ids,
        }
        yield {**line, "advantage_T": total[place]} if part.per_token else line


def _comparable(nodes: Iterable[Node], rows: Iterable[Recorded]) -> None:
    """Check the states of rows that can be credited, where a node compares them: a node itself knows no lines."""
    for spec in [node.spec for node in nodes if isinstance(node.spec, AnchorState)]:
        check = state_text if spec.match == "similarity" else state_key
        for row in rows:
            if not math.isnan(row.reward):
                check(row.fields["state"], row.file, row.line)


def _penalised(nodes: Iterable[Node]) -> bool:
    return any(node.type == "episode_returns" and node.params["invalid_action_penalty"] for node in nodes)


def _rows(credit: torch.Tensor, columns: Mapping[str, Any]) -> list[Any]:
    """Return a number a row, or the list of those of its response."""
    if credit.dim() == 1:
        return credit.tolist()
    attend_RT, trained_RT = columns["attend_RT"], columns["trained_RT"]
    response_RT = attend_RT & (trained_RT.cumsum(-1) > 0)
    return [row[inside].tolist() for row, inside in zip(credit, response_RT, strict=True)]


def _mean(credit: float | list[float]) -> float:
    if isinstance(credit, list):
        return sum(credit) / len(credit) if credit else 0.0
    return credit

"""Group filtering: groups with equal rewards are dropped, and further prompts are sampled in their place.

It walks the graph's inner loop over resamples, which is bounded: the last try keeps every group.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from recipec.diagnostics.errors.run import unreadable_run
from recipec.diagnostics.model import RecipeError
from recipec.graph import Loop, Node, Value
from recipec.host.checksums import check, write_with_sum
from recipec.runtime.batch import images_of
from recipec.runtime.graph_runner import Values
from recipec.runtime.logging import statistics
from recipec.runtime.objective.solved import passed, with_signal
from recipec.runtime.stage.running_stage import RunningStage
from recipec.signals import split_axes

SUMMED = ("tokens/generated", "tools/calls", "episodes/errors")
"""Metrics of a step that add up over its tries; the others are means, and those that end so are of the last try."""
COUNTERS = ("num_tokens", "prompts/retired", "/running_mean", "/running_std")
Recorded = Mapping[str, Tensor]


def run(stage: RunningStage, nodes: Sequence[Node], values: Values, rows: Path) -> dict[str, float]:
    """Walk the nodes of a step over what was drawn, those of an inner loop as often as needed; return the metrics.

    ``values`` holds the drawn columns; ``rows`` is where the rows of the step are kept.
    """
    loop = resampling(stage.graph.loop)
    if loop is None:
        metrics = stage.runner.run(nodes, values, step=stage.step)
        return metrics | retire(stage, nodes, values)
    inside = {item.id for item in loop.body if isinstance(item, Node)}
    metrics = _sample(stage, [node for node in nodes if node.id in inside], values, rows)
    return metrics | stage.runner.run([node for node in nodes if node.id not in inside], values, step=stage.step)


def retire(stage: RunningStage, nodes: Sequence[Node], values: Values) -> dict[str, float]:
    """Leave the prompts that were solved out of later epochs, where the sampler is to; return how many are."""
    sampler = next((node for node in nodes if node.slot == "sampler"), None)
    if sampler is None or not sampler.params.get("retire"):
        return {}
    keep = sampler.params["retire"]
    reward_R = _reward(values, nodes, keep["level"])
    failed_R, prompt_id_R, episode_id_R = (
        _last(values, [*nodes, sampler], signal) for signal in ("failed_R", "prompt_id_R", "episode_id_R")
    )
    solved = passed(reward_R, failed_R, prompt_id_R, episode_id_R, keep["pass_rate"], keep["correct_at"])
    return {"prompts/retired": float(stage.source.retire(solved))}


def resampling(loop: Loop) -> Loop | None:
    """Return the inner loop over resamples, if a stage has one."""
    return next((item for item in loop.body if isinstance(item, Loop) and item.over == "resamples"), None)


def _sample(stage: RunningStage, nodes: Sequence[Node], values: Values, rows: Path) -> dict[str, float]:
    """Sample until as many groups as were drawn carry a signal, or the tries are over."""
    drawn = {value: column for value, column in values.items() if value not in stage.values}
    wanted = stage.per_step
    drawn = _filled(stage, drawn, wanted)  # tries move the ends of epochs, so no step is a short one
    keep = next(node.params["group_filter"] for node in nodes if node.slot == "sampler")
    most = int(keep["max_tries"])
    recorded = stage.context.ranks.on_leader(lambda: _read(rows))
    kept: list[Values] = []
    metrics: list[dict[str, float]] = []
    rewards: list[dict[str, list[float]]] = []
    have = filtered = 0
    while have < wanted:
        number = len(metrics)
        stage.runner.recorded = dict(recorded[number]) if number < len(recorded) else {}
        try_values = {**stage.values, **drawn}
        metrics.append(
            {
                name: float(value)
                for name, value in stage.runner.run(nodes, try_values, step=stage.step, attempt=number).items()
            }
        )
        metrics[-1] |= retire(stage, nodes, try_values)
        rewards.append({n.id: try_values[Value("reward_R", n.id)].tolist() for n in nodes if n.slot == "reward"})
        prompts = len(next(iter(drawn.values())))
        groups = list(range(prompts))
        if number + 1 < most:
            reward_R = _reward(try_values, nodes, keep.get("level"))
            failed_R, by_prompt_R, episode_id_R = (
                _last(try_values, nodes, signal) for signal in ("failed_R", "by_prompt_R", "episode_id_R")
            )
            groups = with_signal(reward_R, failed_R, by_prompt_R, episode_id_R, keep.get("between"))
        kept.append(
            _cut({value: column for value, column in try_values.items() if value not in stage.values}, nodes, groups)
        )
        have += len(groups)
        filtered += prompts - len(groups)
        if number + 1 == most:
            break
        if have < wanted:
            drawn = _filled(stage, {value: [] for value in drawn}, wanted - have)
    stage.runner.recorded = {}
    values |= joined(kept)
    write_with_sum(_beside(rows), json.dumps(rewards) + "\n")
    return _counted(metrics) | {"groups/filtered": float(filtered), "groups/tries": float(len(metrics))}


def joined(tries: Sequence[Values]) -> Values:
    """Put the columns of several tries under each other: rows padded to the widest, prompts counted on."""
    columns: Values = {}
    for value in tries[0]:
        axes = split_axes(value.signal)[1]
        parts = [one[value] for one in tries]
        if value.signal == "image_row_I":
            heights = [len(next(column for v, column in one.items() if v.signal == "by_prompt_R")) for one in tries]
            parts = [part + sum(heights[:i]) for i, part in enumerate(parts)]
        if value.signal == "by_prompt_R":
            sizes = [len(next(column for v, column in one.items() if v.signal == "prompt_P")) for one in tries]
            parts = [part + sum(sizes[:i]) for i, part in enumerate(parts)]
        if isinstance(parts[0], Tensor):
            width = max(part.shape[1] for part in parts) if axes == "RT" else 0
            columns[value] = torch.cat([pad(p, (0, width - p.shape[1])) if axes == "RT" else p for p in parts])
        else:
            columns[value] = [item for part in parts for item in part]
    return columns


def _filled(stage: RunningStage, drawn: Values, count: int) -> Values:
    """Draw on, across the end of an epoch, until there are ``count`` prompts."""
    while (short := count - len(next(iter(drawn.values())))) > 0:
        more = stage.source.draw(short)
        drawn = {value: [*column, *more[value.signal]] for value, column in drawn.items()}
    return drawn


def _cut(values: Values, nodes: Sequence[Node], groups: Sequence[int]) -> Values:
    """Keep the prompts and the rows of some groups, and renumber the groups from 0."""
    by_prompt_R = _last(values, nodes, "by_prompt_R")
    place = {group: i for i, group in enumerate(groups)}
    index = [i for i, group in enumerate(by_prompt_R.tolist()) if group in place]
    kept_values: Values = {}
    for value, column in values.items():
        axes = split_axes(value.signal)[1]
        chosen = list(groups) if axes == "P" else index
        assert axes in {"P", "R", "RT", "I"}, f"`{value.signal}` cannot be filtered"
        if axes == "I":
            pixels_I, image_row_I = (values[Value(signal, value.node)] for signal in ("pixels_I", "image_row_I"))
            kept = images_of(pixels_I, image_row_I, torch.tensor(index, dtype=torch.int64))
            kept_values[value] = kept[value.signal == "image_row_I"]
            continue
        if value.signal == "by_prompt_R":
            kept_values[value] = torch.tensor([place[int(column[i])] for i in index], dtype=torch.int64)
        elif isinstance(column, Tensor):
            kept_values[value] = column[torch.tensor(chosen, dtype=torch.int64, device=column.device)]
        else:
            kept_values[value] = [column[i] for i in chosen]
    return kept_values


def _reward(values: Values, nodes: Sequence[Node], level: str | None) -> Tensor:
    """Return the reward of a level, or the sum of all levels."""
    level_nodes = [node for node in nodes if level and node.slot == "reward" and node.level == level]
    return _last(values, level_nodes or nodes, "reward_R")


def _last(values: Values, nodes: Sequence[Node], signal: str) -> Tensor:
    """What the last of the nodes made of a signal: the sum of the rewards is the loop's end."""
    node = next(node for node in reversed(nodes) if signal in node.outputs)
    column: Tensor = values[Value(signal, node.id)]
    return column


def _counted(tries: Sequence[Mapping[str, float]]) -> dict[str, float]:
    metrics = statistics.mean(tries)
    metrics |= {name: sum(one[name] for one in tries) for name in SUMMED if name in metrics}
    return metrics | {name: value for name, value in tries[-1].items() if name.endswith(COUNTERS)}


def _beside(rows: Path) -> Path:
    return rows.with_name(f"tries-{rows.stem}.json")


def _read(rows: Path) -> list[Recorded]:
    """Read the rewards of every try of an interrupted attempt; those of one that kept no rows are not whole."""
    path = _beside(rows)
    if not rows.exists() or not path.exists():
        return []
    try:
        check(path)
        tries = json.loads(path.read_text(encoding="utf-8"))
        return [{node: torch.tensor(r, dtype=torch.float64) for node, r in one.items()} for one in tries]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RecipeError(unreadable_run(str(path), error)) from error

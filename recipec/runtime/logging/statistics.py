"""Metrics of a step that no component computes: rewards by level, groups without signal; the rollouts as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors.run import unreadable_run
from recipec.diagnostics.model import RecipeError
from recipec.graph import Node, Value
from recipec.host.checksums import check
from recipec.runtime.data.scored_rows import Read, write_rows
from recipec.runtime.graph_runner import Values


def mean(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average metrics over updates, each over those that have it.

    >>> mean([{"loss": 1.0}, {"loss": 3.0, "kl": 2.0}])
    {'loss': 2.0, 'kl': 2.0}
    """
    names = dict.fromkeys(name for one in updates for name in one)
    return {n: sum(one[n] for one in updates if n in one) / sum(n in one for one in updates) for n in names}


def of_rewards(values: Values, nodes: Iterable[Node]) -> dict[str, float]:
    """Mean and deviation of the reward and of each of its levels, under TRL's names."""
    metrics: dict[str, float] = {}
    greedy_R = last(values, "greedy_R")
    for node in nodes:
        if node.slot == "reward":
            level_R = values[Value("reward_R", node.id)]
            level_R = level_R[~torch.isnan(level_R) if greedy_R is None else ~torch.isnan(level_R) & ~greedy_R]
            metrics[f"rewards/{node.level}/mean"] = float(level_R.mean()) if len(level_R) else float("nan")
            metrics[f"rewards/{node.level}/std"] = float(level_R.std()) if len(level_R) > 1 else 0.0
    return metrics


def of_groups(values: Values, nodes: Iterable[Node]) -> dict[str, float]:
    """Total reward, where there is any, its deviation inside groups, and the share of groups that carry no signal."""
    reward_R, failed_R, by_prompt_R = (last(values, s) for s in ("reward_R", "failed_R", "by_prompt_R"))
    if reward_R is None or failed_R is None or by_prompt_R is None:
        return {}
    greedy_R = last(values, "greedy_R")
    kept = ~failed_R if greedy_R is None else ~failed_R & ~greedy_R
    deviations, flat = [], 0
    for group in sorted(set(by_prompt_R.tolist())):
        inside_R = reward_R[kept & (by_prompt_R == group)]
        if len(inside_R):
            flat += bool((inside_R == inside_R[0]).all())
            deviations.append(float(inside_R.std()) if len(inside_R) > 1 else 0.0)
    count = max(1, len(deviations))
    if all(node.slot != "reward" for node in nodes):  # distillation has none
        return {"failed_rows": float(failed_R.sum())}
    return {
        "reward": float(reward_R[kept].mean()) if bool(kept.any()) else float("nan"),
        "reward_std": sum(deviations) / count,
        "frac_reward_zero_std": flat / count,
        "failed_rows": float(failed_R.sum()),
    }


def of_staleness(values: Values, step: int) -> dict[str, float]:
    """How many steps old the weights are that sampled the rows; nothing where all are of this step."""
    version_R = last(values, "policy_version_R")
    if version_R is None:
        return {}
    age_R = (step - version_R).double()
    return {"sampling/staleness/mean": float(age_R.mean()), "sampling/staleness/max": float(age_R.max())}


def last(values: Values, signal: str) -> Tensor | None:
    """Return what the last node made of a signal, such as the sum of its levels."""
    column: Tensor | None = next((values[value] for value in reversed(values) if value.signal == signal), None)
    return column


def write_rollouts(values: Values, nodes: Iterable[Node], path: Path, step: int, read: Read) -> None:
    """Write the rows of a step with their reward by level and their advantage, one JSON object a line."""
    columns: dict[str, Any] = {}
    for value, column in values.items():
        columns.setdefault(value.signal, column)
    for signal in ("reward_R", "advantage_R", "failed_R", "score_R"):
        latest = last(values, signal)
        if latest is not None:
            columns[signal] = latest
    levels = {node.level: values[Value("reward_R", node.id)] for node in nodes if node.slot == "reward"}
    write_rows(path, columns, levels=levels, step=step, read=read)


def recorded(path: Path, nodes: Iterable[Node]) -> dict[str, Tensor]:
    """Read the rewards that an interrupted attempt at a step wrote, by node id; none where there was no attempt.

    Raises:
        RecipeError: RC772, the file was altered.
    """
    if not path.exists():
        return {}
    try:
        check(path)
        rows = [json.loads(line)["rewards"] for line in path.read_bytes().splitlines()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(unreadable_run(str(path), error)) from error
    rewards = {}
    for node in nodes:
        if node.slot == "reward" and all(node.level in row for row in rows):
            values = [math.nan if row[node.level] is None else row[node.level] for row in rows]
            rewards[node.id] = torch.tensor(values, dtype=torch.float64)
    return rewards

"""Which prompts of a step carry a signal, and which are solved."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def with_signal(
    reward_R: Tensor,
    failed_R: Tensor,
    by_prompt_R: Tensor,
    episode_id_R: Tensor,
    between: Sequence[float] | None = None,
) -> list[int]:
    """Return the groups with two different episode rewards, or with a mean inside ``between``; failed rows are ignored.

    So are rows that the level which is compared did not score.

    >>> import torch
    >>> one, none = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.zeros(4, dtype=torch.bool)
    >>> with_signal(one, none, torch.tensor([0, 0, 1, 1]), torch.arange(4))
    [1]
    """
    earned: dict[int, dict[int, list[float]]] = {}
    columns = (column.tolist() for column in (reward_R, failed_R, by_prompt_R, episode_id_R))
    for reward, failed, group, episode in zip(*columns, strict=True):
        if not failed and not math.isnan(reward):
            earned.setdefault(group, {}).setdefault(episode, []).append(reward)
    totals = {group: [math.fsum(rewards) for rewards in inside.values()] for group, inside in earned.items()}
    if between is None:
        return sorted(group for group, per_episode in totals.items() if len(set(per_episode)) > 1)
    low, high = between
    return sorted(
        group for group, per_episode in totals.items() if low < math.fsum(per_episode) / len(per_episode) < high
    )


def passed(
    reward_R: Tensor,
    failed_R: Tensor,
    prompt_id_R: Tensor,
    episode_id_R: Tensor,
    pass_rate: float,
    correct_at: float,
) -> list[int]:
    """Return the prompts where a share of at least ``pass_rate`` of the episodes has enough reward.

    >>> import torch
    >>> reward_R, none_R = torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.zeros(4, dtype=torch.bool)
    >>> passed(reward_R, none_R, torch.tensor([7, 7, 8, 8]), torch.arange(4), 0.9, 1.0)
    [7]
    """
    totals: dict[int, dict[int, float]] = {}
    columns = (column.tolist() for column in (reward_R, failed_R, prompt_id_R, episode_id_R))
    for reward, failed, prompt, episode in zip(*columns, strict=True):
        if not failed and not math.isnan(reward):
            inside = totals.setdefault(prompt, {})
            inside[episode] = inside.get(episode, 0.0) + reward
    shares = {prompt: sum(r >= correct_at for r in inside.values()) / len(inside) for prompt, inside in totals.items()}
    return sorted(prompt for prompt, share in shares.items() if share >= pass_rate)

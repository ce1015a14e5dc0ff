"""Which rank computes which forward pass: whole micro-batches are dealt, so no prefix sharing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Turn:
    """One forward pass of a rank.

    Example: ``Turn(2, counts=False)``: micro-batch 2, computed so that the other ranks need not wait.
    """

    part: int
    """Number of the micro-batch."""
    counts: bool = True
    """Whether its result is used; another rank has it where it is not."""


def deal(costs: Sequence[float], size: int, *, rounds: bool, at_least_one: bool = False) -> list[list[Turn]]:
    """Deal micro-batches to ranks by predicted cost; every one is dealt once.

    With ``rounds`` each pass is a collective of all ranks: passes of like cost stand side by side, and a rank without
    one computes the cheapest again.  Else the most costly goes to the rank with the least to do; ``at_least_one`` gives
    ranks without any the cheapest again, for engines that wait for a backward pass of each.

    >>> [[turn.part for turn in rank] for rank in deal([5, 1, 4, 2], 2, rounds=False)]
    [[0, 1], [2, 3]]
    >>> [[(turn.part, turn.counts) for turn in rank] for rank in deal([5, 1, 4], 2, rounds=True)]
    [[(0, True), (1, True)], [(2, True), (1, False)]]
    """
    order = sorted(range(len(costs)), key=lambda part: (-costs[part], part))
    dealt: list[list[Turn]] = [[] for _ in range(size)]
    if not order:
        return dealt
    if rounds:
        for place, part in enumerate(order):
            dealt[place % size].append(Turn(part))
        for rank in range(len(order) % size or size, size):
            dealt[rank].append(Turn(order[-1], counts=False))
        return dealt
    load = [0.0] * size
    for part in order:
        rank = min(range(size), key=lambda one: (load[one], one))
        dealt[rank].append(Turn(part))
        load[rank] += costs[part]
    for turns in dealt:
        turns.sort(key=lambda turn: turn.part)
        if at_least_one and not turns:
            turns.append(Turn(order[-1], counts=False))
    return dealt


def idle(costs: Sequence[float], dealt: Sequence[Sequence[Turn]], *, rounds: bool) -> float:
    """Return the share of the ranks' time that is spent waiting, as predicted.

    >>> idle([4, 2], deal([4, 2], 2, rounds=False), rounds=False)
    0.25
    """
    if not costs:
        return 0.0
    useful = sum(costs)
    if rounds:
        longest = sum(max(costs[turn.part] for turn in side) for side in zip(*dealt, strict=True))
    else:
        longest = max(sum(costs[turn.part] for turn in turns) for turns in dealt)
    return 1 - useful / (longest * len(dealt)) if longest else 0.0


def owners(weights: Sequence[float], size: int) -> list[int]:
    """Return the rank of each unit: contiguous shares of about equal weight, in order.

    >>> owners([1, 1, 1, 1], 2), owners([3, 1, 1, 1], 2), owners([1], 3)
    ([0, 0, 1, 1], [0, 1, 1, 1], [1])
    """
    total, before = sum(weights), 0.0
    found = []
    for weight in weights:
        middle = before + weight / 2
        found.append(min(size - 1, int(middle * size / total)) if total else 0)
        before += weight
    return found

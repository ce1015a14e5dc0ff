"""Which rank computes which micro-batch, and samples for which prompts.

Micro-batches are assigned whole, so that no shared prefix is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Assignment:
    """One forward pass of a rank.

    Example: ``Assignment(2, counts=False)``: micro-batch 2, computed only because the other ranks wait for a pass.
    """

    microbatch: int
    """Number of the micro-batch, from 0."""
    counts: bool = True
    """Whether its result is used; if not, another rank computes the same micro-batch and counts it."""


def assign_microbatches(costs: Sequence[float], size: int, *, lockstep: bool) -> list[list[Assignment]]:
    """Assign each micro-batch to one of ``size`` ranks by its predicted cost.

    With ``lockstep`` all ranks run pass i together, as with sharded weights.  Every rank then gets the same number of
    passes, and micro-batches of similar cost run together; a rank that has none left repeats the cheapest, which does
    not count.  Otherwise longest-processing-time first: the most expensive micro-batch goes to the rank with the least
    to do (Graham, "Bounds on multiprocessing timing anomalies", 1969).

    >>> [[one.microbatch for one in rank] for rank in assign_microbatches([5, 1, 4, 2], 2, lockstep=False)]
    [[0, 1], [2, 3]]
    >>> assign_microbatches([5, 1, 4], 2, lockstep=True)[1]
    [Assignment(microbatch=2, counts=True), Assignment(microbatch=1, counts=False)]
    """
    by_cost = sorted(range(len(costs)), key=lambda microbatch: (-costs[microbatch], microbatch))
    if lockstep:
        return _in_lockstep(by_cost, size)
    assignments: list[list[Assignment]] = [[] for _ in range(size)]
    load = [0.0] * size
    for microbatch in by_cost:
        rank = min(range(size), key=lambda one: (load[one], one))
        assignments[rank].append(Assignment(microbatch))
        load[rank] += costs[microbatch]
    for own in assignments:
        own.sort(key=lambda one: one.microbatch)
    return assignments


def _in_lockstep(by_cost: Sequence[int], size: int) -> list[list[Assignment]]:
    passes = -(-len(by_cost) // size)
    filled = [Assignment(microbatch) for microbatch in by_cost]
    filled += [Assignment(by_cost[-1], counts=False)] * (passes * size - len(by_cost)) if by_cost else []
    return [filled[rank::size] for rank in range(size)]


def contiguous_owners(weights: Sequence[float], size: int) -> list[int]:
    """Return the rank of each unit: contiguous shares of about equal weight, in order.

    >>> contiguous_owners([1, 1, 1, 1], 2), contiguous_owners([3, 1, 1, 1], 2), contiguous_owners([1], 3)
    ([0, 0, 1, 1], [0, 1, 1, 1], [1])
    """
    total, before = sum(weights), 0.0
    ranks = []
    for weight in weights:
        middle = before + weight / 2
        ranks.append(min(size - 1, int(middle * size / total)) if total else 0)
        before += weight
    return ranks

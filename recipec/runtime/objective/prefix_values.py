"""Credit of prefixes: what rows that begin alike are worth, and what each token changes of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recipec.runtime.objective.advantage import group_statistics


@dataclass(frozen=True, slots=True)
class _Prefixes:
    """Which rows of a group begin alike, up to each token.

    Sorted rows that begin alike stand next to each other, so they are runs: time and memory are linear in the tokens.
    """

    place_R: Tensor
    """Place of each row in the order."""
    run_RT: Tensor
    """Number of the run of each token, among all runs of all positions; rows are in order."""
    count_RT: Tensor
    """How many rows begin alike, up to and with the token."""

    @classmethod
    def of(cls, tokens_RT: Tensor, attend_RT: Tensor, group_R: Tensor) -> _Prefixes:
        """Sort the rows of each group and compare neighbours; where a row has ended, it is like no other token."""
        known_RT = torch.where(attend_RT, tokens_RT, -1)
        texts, groups = known_RT.cpu().numpy(), group_R.tolist()
        order = sorted(range(len(groups)), key=lambda row: (groups[row], texts[row].tobytes()))
        order_R = torch.tensor(order, dtype=torch.int64, device=tokens_RT.device)
        sorted_RT, sorted_R = known_RT[order_R], group_R[order_R]
        alike_RT = (sorted_RT[1:] == sorted_RT[:-1]) & (sorted_R[1:] == sorted_R[:-1])[:, None]
        apart_RT = torch.cat([sorted_RT[:1] * 0 + 1, 1 - alike_RT.long().cumprod(-1)])
        width = tokens_RT.shape[1]
        run_RT = (apart_RT.cumsum(0) - 1) * width + torch.arange(width, device=tokens_RT.device)
        count = torch.bincount(run_RT.flatten(), minlength=run_RT.numel())
        place_R = torch.argsort(order_R)
        return cls(place_R, run_RT, count[run_RT][place_R].double())

    def mean(self, value_R: Tensor) -> Tensor:
        """Average a value of rows over those that begin alike; equal values have exactly their own mean."""
        spread_RT = value_R[torch.argsort(self.place_R)][:, None].expand(self.run_RT.shape).flatten()
        run = self.run_RT.flatten()
        zeros = value_R.new_zeros(self.run_RT.numel())
        low = zeros.scatter_reduce(0, run, spread_RT, "amin", include_self=False)
        high = zeros.scatter_reduce(0, run, spread_RT, "amax", include_self=False)
        total = zeros.index_add(0, run, spread_RT)[self.run_RT][self.place_R]
        bounds = (edge[self.run_RT][self.place_R] for edge in (low, high))
        return torch.clamp(total / self.count_RT, *bounds)


def prefix_value(
    value_R: Tensor,
    group_R: Tensor,
    failed_R: Tensor,
    tokens_RT: Tensor,
    attend_RT: Tensor,
    trained_RT: Tensor,
    *,
    weight: float,
    scale: str,
    epsilon: float,
) -> dict[str, Tensor]:
    """Credit tokens at which rows part; see :class:`recipec.spec.advantage.PrefixValue`.

    Failed rows are in no mean and get 0, as do groups of equal values and rows that are alone. Means are float64.

    >>> tokens_RT = torch.tensor([[1, 5, 6], [1, 5, 7], [1, 8, 9], [1, 8, 9]])
    >>> value_R, every_RT = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.ones(4, 3, dtype=torch.bool)
    >>> prefix_value(
    ...     value_R, torch.zeros(4), value_R.isnan(), tokens_RT, every_RT, every_RT & (tokens_RT > 1),
    ...     weight=1.0, scale="none", epsilon=0.0,
    ... )["advantage_RT"].tolist()
    [[0.0, 0.25, 0.5], [0.0, 0.25, -0.5], [0.0, -0.25, 0.0], [0.0, -0.25, 0.0]]
    """
    ok = torch.nonzero(~failed_R).flatten()
    value, group, attend = value_R[ok].double(), group_R[ok], attend_RT[ok]
    everyone = torch.ones_like(group, dtype=torch.bool)
    groups = group_statistics(value, group, everyone, everyone)
    prefixes = _Prefixes.of(tokens_RT[ok], attend, group)
    mean = torch.where(groups.equal_R, value, groups.mean_R)
    after = prefixes.mean(value)
    before = torch.cat([mean[:, None], after[:, :-1]], -1)
    fewer = prefixes.count_RT != torch.cat([groups.count_R[:, None], prefixes.count_RT[:, :-1]], -1)
    scale_R1 = groups.std_R[:, None] + epsilon if scale == "std" else 1.0
    # where as many rows begin alike after a token as before it, the value is the same: no rounding is left
    parted = fewer & attend & (~groups.equal_R & (groups.count_R > 1))[:, None]
    credit_RT = torch.zeros(tokens_RT.shape, dtype=torch.float64, device=tokens_RT.device)
    credit_RT[ok] = torch.where(parted, (after - before) / scale_R1, 0.0)
    return {"advantage_RT": (weight * torch.where(trained_RT, credit_RT, 0.0)).float()}


def leaf_mean(
    value_R: Tensor,
    group_R: Tensor,
    failed_R: Tensor,
    tokens_RT: Tensor,
    attend_RT: Tensor,
    trained_RT: Tensor,
    *,
    weight: float,
    shared: str,
    scale: str,
    epsilon: float,
) -> dict[str, Tensor]:
    """Give each token the mean advantage of the rows that go through it; see :class:`recipec.spec.advantage.LeafMean`.

    >>> tokens_RT = torch.tensor([[1, 5, 6], [1, 5, 7], [1, 8, 9]])
    >>> value_R, every_RT = torch.tensor([1.0, 0.0, 0.5]), torch.ones(3, 3, dtype=torch.bool)
    >>> leaf_mean(
    ...     value_R, torch.zeros(3), value_R.isnan(), tokens_RT, every_RT, every_RT & (tokens_RT > 1),
    ...     weight=1.0, shared="each", scale="none", epsilon=0.0,
    ... )["advantage_RT"].tolist()
    [[0.0, 0.0, 0.5], [0.0, 0.0, -0.5], [0.0, 0.0, 0.0]]
    """
    ok = torch.nonzero(~failed_R).flatten()
    value, group = value_R[ok].double(), group_R[ok]
    everyone = torch.ones_like(group, dtype=torch.bool)
    groups = group_statistics(value, group, everyone, everyone)
    leaf = (value - groups.mean_R) / (groups.std_R + epsilon) if scale == "std" else value - groups.mean_R
    leaf = torch.where(groups.equal_R | (groups.count_R < 2), 0.0, leaf)
    prefixes = _Prefixes.of(tokens_RT[ok], attend_RT[ok], group)
    mean_RT = prefixes.mean(leaf)
    if shared == "once":
        mean_RT = mean_RT / prefixes.count_RT
    credit_RT = torch.zeros(tokens_RT.shape, dtype=torch.float64, device=tokens_RT.device)
    credit_RT[ok] = mean_RT
    return {"advantage_RT": (weight * torch.where(trained_RT, credit_RT, 0.0)).float()}

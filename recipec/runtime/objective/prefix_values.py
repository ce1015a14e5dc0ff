"""Values of prefixes: the mean of the rows that begin alike, and what each token changes of it."""

from __future__ import annotations

import torch
from torch import Tensor


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
    credit_RT = torch.zeros(tokens_RT.shape, dtype=torch.float64, device=tokens_RT.device)
    for group in torch.unique(group_R):
        index = torch.nonzero((group_R == group) & ~failed_R).flatten()
        value_G = value_R[index].double()
        if len(index) < 2 or bool((value_G == value_G[0]).all()):
            continue
        tokens_GT, attend_GT = tokens_RT[index], attend_RT[index]
        alike_GGT = (tokens_GT[:, None] == tokens_GT[None]) & attend_GT[:, None] & attend_GT[None]
        begin_GGT = alike_GGT.long().cumprod(-1).double()
        count_GT = begin_GGT.sum(1)
        after_GT = torch.einsum("igt,g->it", begin_GGT, value_G) / count_GT.clamp(min=1)
        before_GT = torch.cat([value_G.mean().expand(len(index), 1), after_GT[:, :-1]], -1)
        spread = value_G.std() + epsilon if scale == "std" else 1.0
        # where as many rows begin alike after a token as before it, the value is the same: no rounding is left
        before_count_GT = torch.cat([torch.full_like(count_GT[:, :1], len(index)), count_GT[:, :-1]], -1)
        change_GT = torch.where(count_GT == before_count_GT, 0.0, (after_GT - before_GT) / spread)
        credit_RT[index] = torch.where(attend_GT, change_GT, 0.0)
    return {"advantage_RT": (weight * torch.where(trained_RT, credit_RT, 0.0)).float()}

"""Credit of tokens against a baseline of their group with the least variance at each number of tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def token_baseline(
    value_R: Tensor,
    group_R: Tensor,
    failed_R: Tensor,
    trained_RT: Tensor,
    old_logprob_RT: Tensor,
    old_collision_RT: Tensor,
    *,
    weight: float,
    singleton: str,
) -> dict[str, Tensor]:
    """Credit tokens by the distance from their baseline; see :class:`recipec.spec.advantage.TokenBaseline`.

    Failed rows are in no baseline and get 0. Sums are float64.

    >>> pi_RT, squares_RT = torch.tensor([[0.5, 0.5], [0.5, 1.0]]), torch.tensor([[0.5, 0.5], [0.5, 1.0]])
    >>> token_baseline(
    ...     torch.tensor([1.0, 0.0]), torch.zeros(2), torch.zeros(2).bool(), torch.ones(2, 2).bool(),
    ...     pi_RT.log(), squares_RT, weight=1.0, singleton="zero",
    ... )["advantage_RT"]
    tensor([[ 0.5000,  0.3333],
            [-0.5000, -0.6667]])
    """
    advantage_RT = torch.zeros(trained_RT.shape, dtype=torch.float64, device=value_R.device)
    counted_RT = trained_RT & ~failed_R[:, None]
    if not bool(counted_RT.any()):
        return {"advantage_RT": advantage_RT.float()}
    square_RT = 1 - 2 * old_logprob_RT.double().exp() + old_collision_RT.double()
    weight_M = torch.where(counted_RT, square_RT, 0.0).cumsum(-1)[counted_RT]
    value_M = value_R.double()[:, None].expand(trained_RT.shape)[counted_RT]
    number_RT = trained_RT.cumsum(-1)  # of the token, among those of its row that are trained
    group_R = torch.unique(group_R, return_inverse=True)[1]
    cell_M = torch.unique((group_R[:, None] * (trained_RT.shape[1] + 1) + number_RT)[counted_RT], return_inverse=True)[
        1
    ]
    zeros = torch.zeros(int(cell_M.max()) + 1, dtype=torch.float64, device=value_R.device)
    weighed, total = (zeros.index_add(0, cell_M, column) for column in (weight_M * value_M, weight_M))
    low, high = (zeros.scatter_reduce(0, cell_M, value_M, how, include_self=False) for how in ("amin", "amax"))
    baseline = torch.clamp(torch.where(total > 0, weighed / total, 0.0), low, high)  # exact where values are equal
    if singleton == "raw":
        baseline = torch.where(torch.bincount(cell_M) == 1, 0.0, baseline)
    advantage_RT[counted_RT] = weight * (value_M - baseline[cell_M])
    return {"advantage_RT": advantage_RT.float()}

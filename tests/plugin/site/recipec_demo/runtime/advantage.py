"""Ranks; see :class:`recipec_demo.spec.advantage.Ranked`."""

import torch
from torch import Tensor


def ranked(value_R: Tensor, group_R: Tensor, failed_R: Tensor, *, weight: float) -> dict[str, Tensor]:
    """Rank the rows of each group; rows that failed are in no group."""
    compared = (group_R[:, None] == group_R[None]) & ~failed_R[:, None] & ~failed_R[None]
    below = compared & (value_R[None] < value_R[:, None])
    equal = compared & (value_R[None] == value_R[:, None])
    rank_R = below.sum(1).double() + (equal.sum(1).double() - 1) / 2
    others_R = compared.sum(1) - 1
    credit_R = torch.where(others_R > 0, 2 * rank_R / others_R.clamp(min=1) - 1, 0.0)
    return {"advantage_R": weight * credit_R}

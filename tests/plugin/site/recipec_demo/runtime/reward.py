"""Parity of lengths; see :class:`recipec_demo.spec.reward.EvenLength`."""

import torch
from torch import Tensor


def even_length(trained_RT: Tensor, *, even: float, odd: float) -> dict[str, Tensor]:
    """Score each row by the number of its trained tokens."""
    scores_R = torch.where(trained_RT.sum(1) % 2 == 0, even, odd)
    return {"reward_R": scores_R.double()}

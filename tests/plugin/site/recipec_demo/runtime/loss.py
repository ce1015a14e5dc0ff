"""The policy gradient; see :class:`recipec_demo.spec.loss.Unclipped`."""

import torch
from torch import Tensor


def unclipped(
    logprob_RT: Tensor, old_logprob_RT: Tensor, advantage_RT: Tensor, trained_RT: Tensor, weight_RT: Tensor
) -> dict[str, Tensor]:
    """Raise the probability of credited tokens."""
    zero_RT = torch.zeros_like(logprob_RT)
    ratio_RT = torch.exp(torch.where(trained_RT, logprob_RT - old_logprob_RT, zero_RT))
    credit_RT = torch.where(trained_RT, advantage_RT.to(logprob_RT.dtype), zero_RT)
    weights_RT = torch.where(trained_RT, weight_RT.to(logprob_RT.dtype), zero_RT)
    return {"loss": -(ratio_RT * credit_RT * weights_RT).sum()}

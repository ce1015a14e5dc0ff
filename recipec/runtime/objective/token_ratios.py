"""Log-ratios of tokens: their means over turns and rows, and the weights that correct another engine's samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_MEANS = {"token": "token", "sequence": "product", "geometric": "sequence"}


def averaged(log_RT: Tensor, trained_RT: Tensor, turn_RT: Tensor, level: str, gradient: str) -> Tensor:
    """Take the mean of trained tokens over turn or row (``sequence``), or the sum over the row (``product``).

    With ``gradient="own"`` each token has only its own gradient. Tokens that are not trained get 0.

    >>> one_RT = torch.ones(1, 3, dtype=torch.bool)
    >>> averaged(torch.tensor([[1.0, 2.0, 3.0]]), one_RT, one_RT.long(), "sequence", "all")
    tensor([[2., 2., 2.]])
    """
    if level == "token":
        return log_RT
    part_RT = turn_RT if level == "turn" else torch.zeros_like(turn_RT)
    parts = int(part_RT.max()) + 1 if part_RT.numel() else 1
    empty = log_RT.new_zeros(len(log_RT), parts)
    total = empty.scatter_add(1, part_RT, log_RT)
    count = empty.scatter_add(1, part_RT, trained_RT.to(log_RT.dtype))
    mean_RT = (total if level == "product" else total / count.clamp(min=1)).gather(1, part_RT)
    if gradient == "own":
        mean_RT = mean_RT.detach() + log_RT - log_RT.detach()
    return torch.where(trained_RT, mean_RT, torch.zeros_like(mean_RT))


@dataclass(frozen=True, slots=True)
class Correction:
    """How samples of another engine are weighed: see ``sampler_correction`` of :mod:`recipec.spec.loss`.

    Example: ``Correction("clip", "token", 2.0, 0.5).weights(torch.tensor([[9.0]]), torch.tensor([[True]]))`` is 2.
    """

    action: str
    level: str
    cap: float
    floor: float

    def weights(self, mismatch_RT: Tensor, trained_RT: Tensor) -> Tensor:
        """Weigh tokens, or whole rows, by the trainer's probability over the engine's, within bounds.

        ``mismatch_RT`` is the difference of the log-probabilities, 0 where a token is not trained.
        """
        whole_RT = torch.zeros_like(trained_RT, dtype=torch.int64)
        log_RT = averaged(mismatch_RT, trained_RT, whole_RT, _MEANS[self.level], "all")
        low, high = math.log(self.floor) if self.floor else -math.inf, math.log(self.cap)
        inside_RT = (log_RT >= low) & (log_RT <= high)
        if self.action == "reject":
            return inside_RT.to(log_RT.dtype)
        held_RT = log_RT.clamp(low if self.action == "clip" else -math.inf, high).exp()
        return held_RT * inside_RT if self.action == "mask" else held_RT


def mean_correction(
    ratio_to_RT: Tensor,
    sampler_logprob_RT: Tensor,
    trained_RT: Tensor,
    weight_RT: Tensor,
    *,
    action: str,
    level: str,
    cap: float,
    floor: float,
) -> dict[str, Tensor]:
    r"""Average the weights of a correction over the whole minibatch, in float64; call it before micro-batches are cut.

    .. math:: \bar w = \sum_t \omega_t w_t \Big/ \sum_t \omega_t

    with :math:`\omega` the weights of the objective. Every row gets the same value, and 1 where all weights are 0.

    >>> old_RT, trained_RT = torch.tensor([[-1.0, -1.0]]), torch.tensor([[True, True]])
    >>> how = {"action": "truncate", "level": "token", "cap": 2.0, "floor": 0.0}
    >>> mean_correction(old_RT, torch.tensor([[-9.0, -1.0]]), trained_RT, trained_RT / 2, **how)
    {'correction_mean_R': tensor([1.5000])}
    """
    mismatch_RT = torch.where(trained_RT, ratio_to_RT - sampler_logprob_RT, 0.0)
    factor_RT = Correction(action, level, cap, floor).weights(mismatch_RT, trained_RT).double()
    share_RT = torch.where(trained_RT, weight_RT, 0.0).double()
    mean = (share_RT * factor_RT).sum() / share_RT.sum().clamp(min=torch.finfo(torch.float64).tiny)
    mean = torch.where(mean > 0, mean, 1.0)
    return {"correction_mean_R": mean.float().expand(len(trained_RT)).clone()}

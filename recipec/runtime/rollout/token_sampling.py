"""One token for each row: truncation, inverse-CDF draws, and the log-probability that the trainer will compute."""

from __future__ import annotations

import torch
from torch import Tensor

from recipec.runtime.rollout.engine import SamplingParams


def draw(
    logits_RV: Tensor, uniform_R: Tensor, sampling: SamplingParams, banned_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Draw a token for each row by the inverse of its cumulative distribution.

    The log-probability, in nats, is that of the **full** distribution at the sampling temperature,

    .. math:: \log p(v) = z_v / T - \log \sum_u e^{z_u / T}

    before truncation by ``top_p``, ``top_k`` or ``min_p`` and before banned tokens are left out:
    it is what the trainer computes for the same token.  At temperature 0, where nothing is divided, T is 1.

    Args:
        logits_RV: Of the next token.
        uniform_R: One number in [0, 1) a row, float64.
        sampling: The parameters.
        banned_V: Tokens that may not be drawn now.

    >>> logits = torch.tensor([[0.0, 0.0, -20.0, 0.0]])
    >>> draw(logits, torch.tensor([0.5], dtype=torch.float64), SamplingParams(1))
    (tensor([1]), tensor([-1.0986]))
    """
    scaled_RV = logits_RV.float()
    if sampling.temperature not in {0.0, 1.0}:
        scaled_RV = scaled_RV / sampling.temperature
    allowed_RV = scaled_RV if banned_V is None else scaled_RV.masked_fill(banned_V, -torch.inf)
    if sampling.temperature == 0.0:
        token_R1 = allowed_RV.argmax(-1, keepdim=True)
        return token_R1[:, 0], (scaled_RV.gather(1, token_R1) - scaled_RV.logsumexp(-1, keepdim=True))[:, 0]
    chance_RV = allowed_RV.softmax(-1)
    token_R1 = invert(truncate(chance_RV, sampling), uniform_R[:, None])
    if banned_V is None:
        return token_R1[:, 0], chance_RV.gather(1, token_R1)[:, 0].log()
    return token_R1[:, 0], (scaled_RV.gather(1, token_R1) - scaled_RV.logsumexp(-1, keepdim=True))[:, 0]


def invert(weight_RV: Tensor, uniform_R1: Tensor) -> Tensor:
    """Find the token at which the running sum of weights passes ``uniform`` times their total.

    Sums run in float64 over blocks of tokens, then within the one block: the whole vocabulary is only added up once.

    >>> invert(torch.tensor([[1.0, 0.0, 2.0, 1.0]]), torch.tensor([[0.3]], dtype=torch.float64))
    tensor([[2]])
    """
    rows, vocabulary = weight_RV.shape
    size = 1 << vocabulary.bit_length() // 2
    if vocabulary % size:
        weight_RV = torch.nn.functional.pad(weight_RV, (0, size - vocabulary % size))
    weight_RBS = weight_RV.view(rows, -1, size)
    sum_RB = weight_RBS.sum(-1).double()
    cdf_RB = sum_RB.cumsum(-1)
    target_R1 = uniform_R1 * cdf_RB[:, -1:]
    block_R1 = _passed(cdf_RB, target_R1)
    target_R1 = target_R1 - (cdf_RB - sum_RB).gather(1, block_R1)
    within_RS = weight_RBS.gather(1, block_R1[:, :, None].expand(-1, -1, size))[:, 0].double()
    # weights that are not numbers pass nowhere: their token is one of the vocabulary all the same
    return (block_R1 * size + _passed(within_RS.cumsum(-1), target_R1)).clamp_(max=vocabulary - 1)


def _passed(cdf_RN: Tensor, target_R1: Tensor) -> Tensor:
    """Find where each row first exceeds its target; rounding may not push the target out of [0, last)."""
    last_R1 = cdf_RN[:, -1:]
    below_R1 = target_R1.clamp(min=0.0).minimum(last_R1.nextafter(torch.zeros_like(last_R1)))
    return torch.searchsorted(cdf_RN, below_R1, right=True).clamp_(max=cdf_RN.shape[1] - 1)


def truncate(weight_RV: Tensor, sampling: SamplingParams) -> Tensor:
    """Set the weight of what may not be drawn to 0: top-k, then top-p of what is left, then min-p.

    The likeliest token is always kept; tokens as likely as the last one of the top k are kept too.

    >>> truncate(torch.tensor([[0.1, 1.0, 0.5]]), SamplingParams(1, top_k=2))
    tensor([[0.0000, 1.0000, 0.5000]])
    """
    if 0 < sampling.top_k < weight_RV.shape[1]:
        least_R1 = weight_RV.topk(sampling.top_k, -1).values[:, -1:]
        weight_RV = weight_RV.masked_fill(weight_RV < least_R1, 0.0)
    if sampling.top_p < 1.0:
        ascending_RV, order_RV = weight_RV.sort(-1)
        below_RV = ascending_RV.cumsum(-1, dtype=torch.float64)
        out_RV = below_RV <= (1.0 - sampling.top_p) * below_RV[:, -1:]
        out_RV[:, -1] = False
        weight_RV = weight_RV.masked_fill(out_RV.gather(1, order_RV.argsort(-1)), 0.0)
    if sampling.min_p > 0.0:
        weight_RV = weight_RV.masked_fill(weight_RV < sampling.min_p * weight_RV.amax(-1, keepdim=True), 0.0)
    return weight_RV

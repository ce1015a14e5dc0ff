"""One token for each row: truncation, inverse-CDF draws, and the log-probability that the trainer will compute."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn; the knobs of the samplers.

    Example: ``Sampling(max_length=64, temperature=0.7, top_p=0.9)``.
    """

    max_length: int
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the likeliest token."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    min_length: int = 0
    """No end-of-sequence token before this many tokens; a stop text still ends the row."""
    stop: tuple[str, ...] = ()


def draw(
    logits_RV: Tensor, uniform_R: Tensor, sampling: Sampling, banned_V: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""Draw a token for each row by the inverse of its cumulative distribution.

    The log-probability, in nats, is that of the **full** distribution at the sampling temperature,

    .. math:: \log p(v) = z_v / T - \log \sum_u e^{z_u / T}

    before truncation by ``top_p``, ``top_k`` or ``min_p`` and before banned tokens are left out:
    it is what the trainer computes for the same token.  At temperature 0, where nothing is divided, T is 1.

    Args:
        logits_RV: Of the next token.
        uniform_R: One number in [0, 1) a row, float64.
        sampling: The knobs.
        banned_V: Tokens that may not be drawn now.

    >>> logits = torch.tensor([[0.0, 0.0, -20.0, 0.0]])
    >>> draw(logits, torch.tensor([0.5], dtype=torch.float64), Sampling(1))
    (tensor([1]), tensor([-1.0986]))
    """
    scaled_RV = logits_RV.float()
    if sampling.temperature not in {0.0, 1.0}:
        scaled_RV = scaled_RV / sampling.temperature
    allowed_RV = scaled_RV if banned_V is None else scaled_RV.masked_fill(banned_V, -torch.inf)
    if sampling.temperature == 0.0:
        token_R1 = allowed_RV.argmax(-1, keepdim=True)
        return token_R1[:, 0], (scaled_RV.gather(1, token_R1) - scaled_RV.logsumexp(-1, keepdim=True))[:, 0]
    top_R1 = allowed_RV.amax(-1, keepdim=True)
    weight_RV = (allowed_RV - top_R1).exp_()
    kept_RV = truncate(weight_RV, sampling)
    cdf_RV = kept_RV.cumsum(-1, dtype=torch.float64)
    total_R1 = cdf_RV[:, -1:]
    # below the total even where u * total rounds up to it, so that a token of positive weight is found
    target_R1 = torch.minimum(uniform_R[:, None] * total_R1, total_R1.nextafter(torch.zeros_like(total_R1)))
    token_R1 = torch.searchsorted(cdf_RV, target_R1, right=True).clamp_(max=cdf_RV.shape[1] - 1)
    whole = kept_RV is weight_RV and banned_V is None
    log_total_R1 = top_R1 + total_R1.log().float() if whole else scaled_RV.logsumexp(-1, keepdim=True)
    return token_R1[:, 0], (scaled_RV.gather(1, token_R1) - log_total_R1)[:, 0]


def truncate(weight_RV: Tensor, sampling: Sampling) -> Tensor:
    """Set the weight of what may not be drawn to 0: top-k, then top-p of what is left, then min-p.

    The likeliest token has weight 1 and is always kept; tokens as likely as the last one of the top k are kept too.

    >>> truncate(torch.tensor([[0.1, 1.0, 0.5]]), Sampling(1, top_k=2))
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
        weight_RV = weight_RV.masked_fill(weight_RV < sampling.min_p, 0.0)
    return weight_RV

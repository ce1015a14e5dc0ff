"""Credit of tokens by a critic's values, and what the critic learns from it."""

from __future__ import annotations

import torch
from torch import Tensor

from recipec.runtime.objective.loss import divergence


def gae(
    value_R: Tensor,
    failed_R: Tensor,
    old_value_RT: Tensor,
    trained_RT: Tensor,
    old_logprob_RT: Tensor | None,
    ref_logprob_RT: Tensor | None,
    *,
    weight: float,
    gamma: float,
    lam: float,
    beta: float,
    kl: str,
) -> dict[str, Tensor]:
    """Credit each token with the discounted errors of the values after it; see :class:`recipec.spec.advantage.Gae`.

    Sums are float64. Rows that failed get 0, and are in no statistic.

    >>> made = gae(
    ...     torch.tensor([1.0]), torch.tensor([False]), torch.tensor([[0.0, 0.5, 0.25]]),
    ...     torch.tensor([[False, True, True]]), None, None, weight=1.0, gamma=1.0, lam=0.5, beta=0.0, kl="k1",
    ... )
    >>> made["advantage_RT"].tolist(), made["target_value_RT"].tolist()
    ([[0.0, 0.125, 0.75]], [[0.0, 0.625, 1.0]])
    """
    kept_RT = trained_RT & ~failed_R[:, None]
    value_RT = torch.where(kept_RT, old_value_RT.double(), 0.0)
    later_RT = torch.nn.functional.pad(trained_RT.flip(-1).cumsum(-1).flip(-1), (0, 1))[:, 1:]
    reward_RT = torch.where(kept_RT & (later_RT == 0), value_R.double()[:, None], 0.0)
    metrics: dict[str, Tensor] = {}
    if beta:
        assert old_logprob_RT is not None, "the compiler binds what `beta` asks for"
        assert ref_logprob_RT is not None, "the compiler binds what `beta` asks for"
        apart_RT = torch.where(kept_RT, ref_logprob_RT.double() - old_logprob_RT.double(), 0.0)
        divergence_RT = divergence(apart_RT, kl, None)
        reward_RT = reward_RT - beta * divergence_RT
        metrics["metric/critic/kl"] = divergence_RT.sum() / kept_RT.sum().clamp(min=1)
    credit_RT = torch.zeros_like(value_RT)
    next_R, error_R = value_RT.new_zeros(len(value_RT)), value_RT.new_zeros(len(value_RT))
    for t in range(value_RT.shape[1] - 1, -1, -1):
        kept_R = kept_RT[:, t]
        found_R = reward_RT[:, t] + gamma * next_R - value_RT[:, t] + gamma * lam * error_R
        error_R = torch.where(kept_R, found_R, error_R)
        next_R = torch.where(kept_R, value_RT[:, t], next_R)
        credit_RT[:, t] = torch.where(kept_R, found_R, 0.0)
    target_RT = torch.where(kept_RT, credit_RT + value_RT, 0.0)
    metrics["metric/critic/explained_variance"] = explained(value_RT[kept_RT], target_RT[kept_RT])
    return {"advantage_RT": (weight * credit_RT).float(), "target_value_RT": target_RT.float(), **metrics}


def explained(value_M: Tensor, target_M: Tensor) -> Tensor:
    """Return which share of the variance of the targets the values explain; 0 where all targets are equal.

    >>> explained(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0])), explained(torch.ones(1), torch.ones(1))
    (tensor(0.7500), tensor(0.))
    """
    if len(target_M) < 2 or bool((target_M == target_M[0]).all()):
        return torch.zeros((), dtype=target_M.dtype)
    return 1 - (target_M - value_M).var() / target_M.var()


def value_loss(
    value_RT: Tensor,
    old_value_RT: Tensor,
    target_value_RT: Tensor,
    trained_RT: Tensor,
    weight_RT: Tensor,
    *,
    cliprange_value: float | None,
    coefficient: float,
) -> dict[str, Tensor]:
    """Square the distance of values from their targets; see :class:`recipec.spec.critic.ValueModel`.

    >>> one = torch.ones(1, 1)
    >>> value_loss(3 * one, one, 2 * one, one > 0, one, cliprange_value=0.5, coefficient=2.0)["loss"]
    tensor(1.)
    """
    kept_RT = trained_RT & (weight_RT != 0)
    value_RT = torch.where(kept_RT, value_RT, 0.0)
    old_RT, target_RT = (torch.where(kept_RT, column, 0.0) for column in (old_value_RT, target_value_RT))
    loss_RT = (value_RT - target_RT).square()
    metrics = {"metric/value": value_RT.detach(), "metric/target": target_RT}
    if cliprange_value is not None:
        held_RT = torch.maximum(torch.minimum(value_RT, old_RT + cliprange_value), old_RT - cliprange_value)
        clipped_RT = (held_RT - target_RT).square()
        metrics["metric/clip_ratio"] = (clipped_RT > loss_RT).float()
        loss_RT = torch.maximum(loss_RT, clipped_RT)
    share_RT = torch.where(kept_RT, weight_RT, 0.0)
    loss = 0.5 * coefficient * (loss_RT * share_RT).sum()
    return {"loss": loss, **{name: (column * share_RT).sum() for name, column in metrics.items()}}

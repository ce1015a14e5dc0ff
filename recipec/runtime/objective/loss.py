"""Objectives: the functions behind ``recipec.spec.loss``.

A loss is a sum over tokens (or pairs) times their share of the whole minibatch: losses and gradients of micro-batches
and ranks simply add up.
Where a token is not trained nothing is read, not even a NaN.

In addition to the signals that its spec declares, a function may return entries named ``metric/...``: detached sums
with the same weights, which add over micro-batches as the loss does.
Divided by the sum of the weights, ``metric/weight`` of :func:`.compiler_ops.weigh`, they are weighted means;
it is 1 where the aggregate is a mean. A metric of some rows alone is two numbers, its sum and the sum of their weights.
Names are TRL's: ``kl``, ``entropy``, ``clip_ratio/low_mean``, ``rewards/chosen``, ``logps/chosen`` and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.objective.preference_losses import VARIANTS, Scores, pair_metrics, pairs_of, sum_of
from recipec.runtime.objective.token_ratios import Correction, averaged
from recipec.spec.loss.policy_gradient import SamplerRejection


@dataclass(frozen=True, slots=True, kw_only=True)
class _PolicyTerms:
    """Columns and parameters of every objective of rl; see :class:`recipec.spec.loss.PolicyGradient`.

    The correction for the sampling engine weighs the policy term by old over sampler probability, the old one being
    what the ratio is taken to.
    """

    logprob_RT: Tensor
    ratio_to_RT: Tensor
    advantage_RT: Tensor
    trained_RT: Tensor
    weight_RT: Tensor
    ref_logprob_RT: Tensor | None
    entropy_RT: Tensor | None
    sampler_logprob_RT: Tensor | None
    correction_mean_R: Tensor | None
    beta: float
    kl: str
    log_ratio_clamp: float | None
    kl_clamp: float | None
    entropy: float
    sampler_correction: str
    sampler_correction_level: str
    sampler_correction_cap: float
    sampler_correction_floor: float
    sampler_correction_normalised: bool
    sampler_rejection: SamplerRejection | None

    def log_ratio(self) -> Tensor:
        """Return the log ratio of each trained token."""
        return self.masked(self.logprob_RT - self.ratio_to_RT)

    def masked(self, column_RT: Tensor) -> Tensor:
        """Put 0 where a token is not trained."""
        return torch.where(self.trained_RT, column_RT, torch.zeros_like(column_RT))

    def advantage(self) -> Tensor:
        """Return the advantage of trained tokens, as wide as the log-probabilities."""
        return self.masked(self.advantage_RT.to(self.logprob_RT.dtype))

    def loss(self, loss_RT: Tensor, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add to the policy term of an objective what all objectives add; return the loss and its metrics."""
        metrics["approx_kl"] = -self.log_ratio()
        if self.sampler_correction != "none" or self.sampler_rejection is not None:
            correction_RT = self._correction()
            loss_RT = loss_RT * correction_RT
            metrics["sampling/importance_sampling_ratio/mean"] = correction_RT
        if self.beta:
            u_RT = self.masked(_required(self.ref_logprob_RT) - self.logprob_RT)
            metrics["kl"] = _clamp(divergence(u_RT, self.kl, self.log_ratio_clamp), self.kl_clamp)
            loss_RT = loss_RT + self.beta * metrics["kl"]
        if self.entropy:
            metrics["entropy"] = self.masked(_required(self.entropy_RT))
            loss_RT = loss_RT - self.entropy * metrics["entropy"]
        loss = _weighted(loss_RT, self.trained_RT, self.weight_RT)
        return {"loss": loss, **_metrics(metrics, self.trained_RT, self.weight_RT)}

    def _correction(self) -> Tensor:
        """Return the weight of each token, or of its row: normalised, then 0 where it is left out."""
        mismatch_RT = self.masked(self.ratio_to_RT - _required(self.sampler_logprob_RT))
        factor_RT = torch.ones_like(mismatch_RT)
        if self.sampler_correction != "none":
            correction = Correction(
                self.sampler_correction,
                self.sampler_correction_level,
                self.sampler_correction_cap,
                self.sampler_correction_floor,
            )
            factor_RT = correction.weights(mismatch_RT, self.trained_RT)
        if self.sampler_correction_normalised:
            factor_RT = factor_RT / _required(self.correction_mean_R).to(factor_RT.dtype)[:, None]
        if self.sampler_rejection is not None:
            bounds = self.sampler_rejection
            kept = Correction("reject", bounds.level, bounds.cap, bounds.floor)
            factor_RT = factor_RT * kept.weights(mismatch_RT, self.trained_RT)
        return factor_RT


def clipped(
    turn_RT: Tensor,
    *,
    ratio: str,
    ratio_gradient: str,
    epsilon: float,
    epsilon_high: float | None,
    dual_clip: float | None,
    **shared: Any,
) -> dict[str, Tensor]:
    r"""Raise the probability of good tokens within a trust region; see :class:`recipec.spec.loss.Clipped`.

    The published maximum and minimum of three terms is one clamp of the ratio; its ends depend on the sign of the
    advantage:

    .. math:: \ell = -A \rho',\quad \rho' = \min(\rho, 1+\epsilon_{high}) \text{ if } A > 0,\quad
        \min(\max(\rho, 1-\epsilon), c) \text{ if } A < 0

    ``log_ratio_clamp`` bounds the log ratio (after the mean of a turn or sequence) and the k3 estimate's
    :math:`u = \log\pi_{ref} - \log\pi`, ``kl_clamp`` the estimate that comes out. Tree-GRPO sets them to 20 and 10.
    """
    terms = _PolicyTerms(**shared)
    log_ratio_RT = averaged(terms.log_ratio(), terms.trained_RT, turn_RT, ratio, ratio_gradient)
    log_ratio_RT = _clamp(log_ratio_RT, terms.log_ratio_clamp)
    upper = epsilon if epsilon_high is None else epsilon_high
    return terms.loss(*_surrogate(log_ratio_RT, terms.advantage(), 1 - epsilon, 1 + upper, dual_clip))


def cispo(*, ratio_max: float, ratio_min: float, **shared: Any) -> dict[str, Tensor]:
    """Weight the policy gradient of each token by its bounded ratio; see :class:`recipec.spec.loss.Cispo`.

    >>> from recipec.spec.loss import Cispo
    >>> spec, column_RT = Cispo(ratio_max=2.0), torch.tensor([[-1.0]])
    >>> columns = dict.fromkeys(spec.parameters()) | dict(
    ...     logprob_RT=column_RT, ratio_to_RT=column_RT - 3, advantage_RT=column_RT,
    ...     trained_RT=column_RT < 0, weight_RT=column_RT / column_RT,
    ... )
    >>> cispo(**columns, **spec.params())["loss"]
    tensor(-2.)
    """
    terms = _PolicyTerms(**shared)
    ratio_RT = _clamp(terms.log_ratio().detach(), terms.log_ratio_clamp).exp()
    clipped_RT = ratio_RT.clamp(ratio_min, ratio_max)
    metrics = {"clip_ratio/low_mean": ratio_RT < ratio_min, "clip_ratio/high_mean": ratio_RT > ratio_max}
    return terms.loss(-clipped_RT * terms.advantage() * terms.masked(terms.logprob_RT), metrics)


def sapo(*, temperature_pos: float, temperature_neg: float, **shared: Any) -> dict[str, Tensor]:
    """Gate the ratio smoothly; see :class:`recipec.spec.loss.Sapo`."""
    terms = _PolicyTerms(**shared)
    # beyond 20 nats the gate is 1 and flat in every precision, and the gradient of an exp that overflowed is NaN
    ratio_RT = _clamp(terms.log_ratio(), terms.log_ratio_clamp).clamp(max=20.0).exp()
    advantage_RT = terms.advantage()
    sharpness_RT = torch.where(advantage_RT > 0, temperature_pos, temperature_neg).to(advantage_RT.dtype)
    gate_RT = torch.sigmoid(sharpness_RT * (ratio_RT - 1)) * 4 / sharpness_RT
    return terms.loss(-gate_RT * advantage_RT, {})


def gmpo(turn_RT: Tensor, *, epsilon: float, epsilon_high: float | None, **shared: Any) -> dict[str, Tensor]:
    """Raise the geometric mean of clipped token ratios; see :class:`recipec.spec.loss.Gmpo`."""
    terms = _PolicyTerms(**shared)
    advantage_RT, log_ratio_RT = terms.advantage(), terms.log_ratio()
    upper = epsilon if epsilon_high is None else epsilon_high
    clipped_RT = torch.where(advantage_RT > 0, log_ratio_RT.clamp(max=upper), log_ratio_RT.clamp(min=-epsilon))
    mean_RT = averaged(clipped_RT, terms.trained_RT, turn_RT, "sequence", "all")
    metrics = {
        "clip_ratio/low_mean": (log_ratio_RT < -epsilon) & (advantage_RT < 0),
        "clip_ratio/high_mean": (log_ratio_RT > upper) & (advantage_RT > 0),
    }
    return terms.loss(-advantage_RT * _clamp(mean_RT, terms.log_ratio_clamp).exp(), metrics)


def clip_cov(selected_RT: Tensor, *, epsilon: float, epsilon_high: float | None, **shared: Any) -> dict[str, Tensor]:
    """Leave selected tokens out of the clipped objective; see :class:`recipec.spec.loss.ClipCov`."""
    terms = _PolicyTerms(**shared)
    upper = epsilon if epsilon_high is None else epsilon_high
    log_ratio_RT = _clamp(terms.log_ratio(), terms.log_ratio_clamp)
    loss_RT, metrics = _surrogate(log_ratio_RT, terms.advantage(), 1 - epsilon, 1 + upper, None)
    return terms.loss(torch.where(selected_RT, 0.0, loss_RT), {**metrics, "selected": selected_RT})


def kl_cov(selected_RT: Tensor, *, penalty: float, **shared: Any) -> dict[str, Tensor]:
    """Penalise the change of selected tokens; see :class:`recipec.spec.loss.KlCov`."""
    terms = _PolicyTerms(**shared)
    log_ratio_RT = _clamp(terms.log_ratio(), terms.log_ratio_clamp)
    loss_RT, metrics = _surrogate(log_ratio_RT, terms.advantage(), 0.0, math.inf, None)
    penalty_RT = torch.where(selected_RT, penalty * log_ratio_RT.abs(), 0.0)
    return terms.loss(loss_RT + penalty_RT, {**metrics, "selected": selected_RT})


def nll(logprob_RT: Tensor, trained_RT: Tensor, weight_RT: Tensor) -> dict[str, Tensor]:
    """Raise the probability of the given completion; see :class:`recipec.spec.loss.Nll`.

    >>> nll(torch.tensor([[0.0, -1.0, -3.0]]), torch.tensor([[False, True, True]]), torch.tensor([[0.0, 0.5, 0.5]]))
    {'loss': tensor(2.)}
    """
    return {"loss": _weighted(-logprob_RT, trained_RT, weight_RT)}


def dpo(
    logprob_RT: Tensor,
    ref_logprob_RT: Tensor,
    trained_RT: Tensor,
    by_pair_R: Tensor,
    chosen_R: Tensor,
    weight_R: Tensor,
    *,
    beta: float,
    variant: str,
    label_smoothing: float,
    discopop_tau: float,
    length_normalised: bool,
    nll: float,
) -> dict[str, Tensor]:
    """Prefer the chosen answer over the rejected one; see :class:`recipec.spec.loss.Dpo`.

    Both rows of a pair must be in the same micro-batch; their order does not matter.
    Rewards and margins among the metrics are in units of ``beta`` nats.
    """
    logp_R = sum_of(logprob_RT, trained_RT)
    log_ratio_R = logp_R - sum_of(ref_logprob_RT, trained_RT)
    if length_normalised:
        log_ratio_R = log_ratio_R / trained_RT.sum(-1).clamp(min=1)
    chosen, rejected = pairs_of(by_pair_R, chosen_R)
    difference = log_ratio_R[chosen] - log_ratio_R[rejected]
    both = log_ratio_R[chosen], log_ratio_R[rejected]
    loss = VARIANTS[variant](Scores(*both, beta, label_smoothing, discopop_tau))
    weight = weight_R[chosen]
    metrics = {
        "rewards/chosen": beta * log_ratio_R[chosen],
        "rewards/rejected": beta * log_ratio_R[rejected],
        "rewards/margins": beta * difference,
        "rewards/accuracies": difference > 0,
        "logps/chosen": logp_R[chosen],
        "logps/rejected": logp_R[rejected],
    }
    if nll:
        loss = loss - nll * logp_R[chosen] / trained_RT[chosen].sum(-1).clamp(min=1)
    return {"loss": (loss * weight).sum(), **pair_metrics(metrics, weight)}


def _surrogate(
    log_ratio_RT: Tensor, advantage_RT: Tensor, below: float, above: float, dual_clip: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return minus the advantage times the clamped ratio, and where the clamp was at work."""
    negative_RT = advantage_RT < 0
    low_RT = torch.full_like(advantage_RT, -math.inf).masked_fill(negative_RT, below)
    high_RT = torch.full_like(advantage_RT, above).masked_fill(
        negative_RT, math.inf if dual_clip is None else dual_clip
    )
    # One nat above the clamp's end, because the gradient of an exp that overflowed is 0 * inf there.
    ratio_RT = torch.exp(torch.minimum(log_ratio_RT, high_RT.log() + 1))
    fell_RT, rose_RT = ratio_RT < low_RT, ratio_RT > high_RT
    clipped_RT = rose_RT & (advantage_RT > 0)
    metrics = {
        "clip_ratio/low_mean": fell_RT,
        "clip_ratio/high_mean": clipped_RT,
        "clip_ratio/region_mean": fell_RT | clipped_RT,
    }
    if dual_clip is not None:
        metrics["dual_clip"] = rose_RT & negative_RT
    return -advantage_RT * torch.clamp(ratio_RT, low_RT, high_RT), metrics


def divergence(u_RT: Tensor, estimator: str, log_ratio_clamp: float | None) -> Tensor:
    """Estimate KL(policy || reference) of each token from ``u``, the reference's log-probability minus the policy's."""
    if estimator == "k1":
        return -u_RT
    if estimator == "k2":
        return u_RT.square() / 2
    if estimator == "abs":
        return u_RT.abs()
    u_RT = _clamp(u_RT, log_ratio_clamp)
    return u_RT.exp() - u_RT - 1


def _required(column: Tensor | None) -> Tensor:
    assert column is not None, "the compiler binds what a param asks for"
    return column


def _clamp(column: Tensor, bound: float | None) -> Tensor:
    return column if bound is None else column.clamp(-bound, bound)


def _weighted(column: Tensor, kept: Tensor, weight: Tensor) -> Tensor:
    zero = torch.zeros_like(column)
    return (torch.where(kept, column, zero) * torch.where(kept, weight.to(column.dtype), zero)).sum()


def _metrics(columns: dict[str, Tensor], kept: Tensor, weight: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return {f"metric/{name}": _weighted(column.to(weight.dtype), kept, weight) for name, column in columns.items()}

"""Objectives: the functions behind ``recipec.spec.loss``.

A loss is a sum over tokens (or pairs) times their share of the whole minibatch: losses and gradients of micro-batches
and ranks simply add up.
Where a token is not trained nothing is read, not even a NaN.

In addition to the signals that its spec declares, a function may return entries named ``metric/...``: detached sums
with the
same weights, which add over micro-batches as the loss does.
Divided by the sum of the weights, ``metric/weight`` of :func:`.compiler_ops.weigh`, they are weighted means;
it is 1 where the aggregate is a mean.
Names are TRL's: ``kl``, ``entropy``, ``clip_ratio/low_mean``, ``rewards/chosen``, ``logps/chosen`` and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from recipec.runtime.objective.preference_losses import VARIANTS, Scores, pair_metrics, pairs_of, sum_of


def clipped(
    logprob_RT: Tensor,
    ratio_to_RT: Tensor,
    advantage_RT: Tensor,
    trained_RT: Tensor,
    turn_RT: Tensor,
    weight_RT: Tensor,
    ref_logprob_RT: Tensor | None,
    entropy_RT: Tensor | None,
    sampler_logprob_RT: Tensor | None,
    *,
    ratio: str,
    ratio_gradient: str,
    epsilon: float,
    epsilon_high: float | None,
    dual_clip: float | None,
    log_ratio_clamp: float | None,
    beta: float,
    kl: str,
    kl_clamp: float | None,
    entropy: float,
    sampler_correction: str,
    sampler_correction_level: str,
    sampler_correction_cap: float,
    sampler_correction_floor: float,
) -> dict[str, Tensor]:
    r"""Raise the probability of credited tokens within a trust region; see :class:`recipec.spec.loss.Clipped`.

    The published maximum and minimum of three terms is one clamp of the ratio; its ends depend on the sign of the
    advantage:

    .. math:: \ell = -A \rho',\quad \rho' = \min(\rho, 1+\epsilon_{high}) \text{ if } A > 0,\quad
        \min(\max(\rho, 1-\epsilon), c) \text{ if } A < 0

    ``log_ratio_clamp`` bounds the log ratio (after the mean of a turn or sequence) and the k3 estimate's
    :math:`u = \log\pi_{ref} - \log\pi`, ``kl_clamp`` the estimate that comes out. Tree-GRPO sets them to 20 and 10.
    """
    rows = _Rows(logprob_RT, ratio_to_RT, trained_RT, weight_RT, ref_logprob_RT, entropy_RT, sampler_logprob_RT)
    added = _Added(
        beta, kl, log_ratio_clamp, kl_clamp, entropy,
        sampler_correction, sampler_correction_level, sampler_correction_cap, sampler_correction_floor,
    )  # fmt: skip
    drift_RT = _averaged(rows.drift(), trained_RT, turn_RT, ratio, ratio_gradient)
    above = epsilon if epsilon_high is None else epsilon_high
    loss_RT, metrics = _surrogate(
        _clamp(drift_RT, log_ratio_clamp), rows.credit(advantage_RT), 1 - epsilon, 1 + above, dual_clip
    )
    return added.to(loss_RT, metrics, rows)


def cispo(
    logprob_RT: Tensor,
    ratio_to_RT: Tensor,
    advantage_RT: Tensor,
    trained_RT: Tensor,
    weight_RT: Tensor,
    ref_logprob_RT: Tensor | None,
    entropy_RT: Tensor | None,
    sampler_logprob_RT: Tensor | None,
    *,
    ratio_max: float,
    ratio_min: float,
    log_ratio_clamp: float | None,
    beta: float,
    kl: str,
    kl_clamp: float | None,
    entropy: float,
    sampler_correction: str,
    sampler_correction_level: str,
    sampler_correction_cap: float,
    sampler_correction_floor: float,
) -> dict[str, Tensor]:
    """Weight the policy gradient of each token by its bounded ratio; see :class:`recipec.spec.loss.Cispo`.

    >>> from recipec.spec.loss import Cispo
    >>> column = torch.tensor([[-1.0]])
    >>> params = Cispo(ratio_max=2.0).params()
    >>> cispo(column, column - 3, column, column < 0, column / column, None, None, None, **params)["loss"]
    tensor(-2.)
    """
    rows = _Rows(logprob_RT, ratio_to_RT, trained_RT, weight_RT, ref_logprob_RT, entropy_RT, sampler_logprob_RT)
    added = _Added(
        beta, kl, log_ratio_clamp, kl_clamp, entropy,
        sampler_correction, sampler_correction_level, sampler_correction_cap, sampler_correction_floor,
    )  # fmt: skip
    ratio_RT = _clamp(rows.drift().detach(), log_ratio_clamp).exp()
    held_RT = ratio_RT.clamp(ratio_min, ratio_max)
    metrics = {"clip_ratio/low_mean": ratio_RT < ratio_min, "clip_ratio/high_mean": ratio_RT > ratio_max}
    return added.to(-held_RT * rows.credit(advantage_RT) * rows.kept(logprob_RT), metrics, rows)


def sapo(
    logprob_RT: Tensor,
    ratio_to_RT: Tensor,
    advantage_RT: Tensor,
    trained_RT: Tensor,
    weight_RT: Tensor,
    ref_logprob_RT: Tensor | None,
    entropy_RT: Tensor | None,
    sampler_logprob_RT: Tensor | None,
    *,
    temperature_pos: float,
    temperature_neg: float,
    log_ratio_clamp: float | None,
    beta: float,
    kl: str,
    kl_clamp: float | None,
    entropy: float,
    sampler_correction: str,
    sampler_correction_level: str,
    sampler_correction_cap: float,
    sampler_correction_floor: float,
) -> dict[str, Tensor]:
    """Gate the ratio smoothly; see :class:`recipec.spec.loss.Sapo`."""
    rows = _Rows(logprob_RT, ratio_to_RT, trained_RT, weight_RT, ref_logprob_RT, entropy_RT, sampler_logprob_RT)
    added = _Added(
        beta, kl, log_ratio_clamp, kl_clamp, entropy,
        sampler_correction, sampler_correction_level, sampler_correction_cap, sampler_correction_floor,
    )  # fmt: skip
    # beyond 20 nats the gate is 1 and flat in every precision, and the gradient of an exp that overflowed is NaN
    ratio_RT = _clamp(rows.drift(), log_ratio_clamp).clamp(max=20.0).exp()
    credit_RT = rows.credit(advantage_RT)
    sharpness_RT = torch.where(credit_RT > 0, temperature_pos, temperature_neg).to(credit_RT.dtype)
    gate_RT = torch.sigmoid(sharpness_RT * (ratio_RT - 1)) * 4 / sharpness_RT
    return added.to(-gate_RT * credit_RT, {}, rows)


def gmpo(
    logprob_RT: Tensor,
    ratio_to_RT: Tensor,
    advantage_RT: Tensor,
    trained_RT: Tensor,
    turn_RT: Tensor,
    weight_RT: Tensor,
    ref_logprob_RT: Tensor | None,
    entropy_RT: Tensor | None,
    sampler_logprob_RT: Tensor | None,
    *,
    epsilon: float,
    epsilon_high: float | None,
    log_ratio_clamp: float | None,
    beta: float,
    kl: str,
    kl_clamp: float | None,
    entropy: float,
    sampler_correction: str,
    sampler_correction_level: str,
    sampler_correction_cap: float,
    sampler_correction_floor: float,
) -> dict[str, Tensor]:
    """Raise the geometric mean of clipped token ratios; see :class:`recipec.spec.loss.Gmpo`."""
    rows = _Rows(logprob_RT, ratio_to_RT, trained_RT, weight_RT, ref_logprob_RT, entropy_RT, sampler_logprob_RT)
    added = _Added(
        beta, kl, log_ratio_clamp, kl_clamp, entropy,
        sampler_correction, sampler_correction_level, sampler_correction_cap, sampler_correction_floor,
    )  # fmt: skip
    credit_RT, drift_RT = rows.credit(advantage_RT), rows.drift()
    above = epsilon if epsilon_high is None else epsilon_high
    held_RT = torch.where(credit_RT > 0, drift_RT.clamp(max=above), drift_RT.clamp(min=-epsilon))
    mean_RT = _averaged(held_RT, trained_RT, turn_RT, "sequence", "all")
    metrics = {
        "clip_ratio/low_mean": (drift_RT < -epsilon) & (credit_RT < 0),
        "clip_ratio/high_mean": (drift_RT > above) & (credit_RT > 0),
    }
    return added.to(-credit_RT * _clamp(mean_RT, log_ratio_clamp).exp(), metrics, rows)


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


@dataclass(frozen=True, slots=True)
class _Rows:
    """What every objective of rl reads of its rows besides their credit."""

    logprob_RT: Tensor
    ratio_to_RT: Tensor
    trained_RT: Tensor
    weight_RT: Tensor
    ref_logprob_RT: Tensor | None
    entropy_RT: Tensor | None
    sampler_logprob_RT: Tensor | None

    def drift(self) -> Tensor:
        """Return the log ratio of each trained token."""
        return self.kept(self.logprob_RT - self.ratio_to_RT)

    def kept(self, column_RT: Tensor) -> Tensor:
        """Put 0 where a token is not trained."""
        return torch.where(self.trained_RT, column_RT, torch.zeros_like(column_RT))

    def credit(self, advantage_RT: Tensor) -> Tensor:
        """Return the advantage of trained tokens, as wide as the log-probabilities."""
        return self.kept(advantage_RT.to(self.logprob_RT.dtype))


@dataclass(frozen=True, slots=True)
class _Added:
    """What objectives of rl add to their own term: see :class:`recipec.spec.loss.PolicyGradient`.

    The correction for the sampling engine weighs the policy term by old over sampler probability, the old one being
    what the ratio is taken to.
    """

    beta: float
    kl: str
    log_ratio_clamp: float | None
    kl_clamp: float | None
    entropy: float
    correction: str
    level: str
    cap: float
    floor: float

    def to(self, loss_RT: Tensor, metrics: dict[str, Tensor], rows: _Rows) -> dict[str, Tensor]:
        """Return the loss and its metrics."""
        metrics["approx_kl"] = -rows.drift()
        if self.correction != "none":
            mismatch_RT = rows.kept(rows.ratio_to_RT - _given(rows.sampler_logprob_RT))
            correction_RT = self._correction(mismatch_RT, rows.trained_RT)
            loss_RT = loss_RT * correction_RT
            metrics["sampling/importance_sampling_ratio/mean"] = correction_RT
        if self.beta:
            u_RT = rows.kept(_given(rows.ref_logprob_RT) - rows.logprob_RT)
            metrics["kl"] = _clamp(_divergence(u_RT, self.kl, self.log_ratio_clamp), self.kl_clamp)
            loss_RT = loss_RT + self.beta * metrics["kl"]
        if self.entropy:
            metrics["entropy"] = rows.kept(_given(rows.entropy_RT))
            loss_RT = loss_RT - self.entropy * metrics["entropy"]
        loss = _weighted(loss_RT, rows.trained_RT, rows.weight_RT)
        return {"loss": loss, **_metrics(metrics, rows.trained_RT, rows.weight_RT)}

    def _correction(self, mismatch_RT: Tensor, trained_RT: Tensor) -> Tensor:
        """Weigh tokens, or whole rows, by what the trainer's probability is to the engine's, within bounds."""
        ratio = {"token": "token", "sequence": "product", "geometric": "sequence"}[self.level]
        whole_RT = torch.zeros_like(trained_RT, dtype=torch.int64)
        log_RT = _averaged(mismatch_RT, trained_RT, whole_RT, ratio, "all")
        low, high = math.log(self.floor) if self.floor else -math.inf, math.log(self.cap)
        inside_RT = (log_RT >= low) & (log_RT <= high)
        if self.correction == "reject":
            return inside_RT.to(log_RT.dtype)
        held_RT = log_RT.clamp(low if self.correction == "clip" else -math.inf, high).exp()
        return held_RT * inside_RT if self.correction == "mask" else held_RT


def _surrogate(
    log_ratio_RT: Tensor, credit_RT: Tensor, below: float, above: float, dual_clip: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return minus credit times the clamped ratio, and where the clamp was at work."""
    negative_RT = credit_RT < 0
    low_RT = torch.full_like(credit_RT, -math.inf).masked_fill(negative_RT, below)
    high_RT = torch.full_like(credit_RT, above).masked_fill(negative_RT, math.inf if dual_clip is None else dual_clip)
    # One nat above the clamp's end, because the gradient of an exp that overflowed is 0 * inf there.
    ratio_RT = torch.exp(torch.minimum(log_ratio_RT, high_RT.log() + 1))
    fell_RT, rose_RT = ratio_RT < low_RT, ratio_RT > high_RT
    clipped_RT = rose_RT & (credit_RT > 0)
    metrics = {
        "clip_ratio/low_mean": fell_RT,
        "clip_ratio/high_mean": clipped_RT,
        "clip_ratio/region_mean": fell_RT | clipped_RT,
    }
    if dual_clip is not None:
        metrics["dual_clip"] = rose_RT & negative_RT
    return -credit_RT * torch.clamp(ratio_RT, low_RT, high_RT), metrics


def _averaged(drift_RT: Tensor, trained_RT: Tensor, turn_RT: Tensor, level: str, gradient: str) -> Tensor:
    """Take the mean of the trained tokens' drift over turn or row, or its sum over the row; 0 where not trained."""
    if level == "token":
        return drift_RT
    part_RT = turn_RT if level == "turn" else torch.zeros_like(turn_RT)
    parts = int(part_RT.max()) + 1 if part_RT.numel() else 1
    empty = drift_RT.new_zeros(len(drift_RT), parts)
    total = empty.scatter_add(1, part_RT, drift_RT)
    count = empty.scatter_add(1, part_RT, trained_RT.to(drift_RT.dtype))
    mean_RT = (total if level == "product" else total / count.clamp(min=1)).gather(1, part_RT)
    if gradient == "own":
        mean_RT = mean_RT.detach() + drift_RT - drift_RT.detach()
    return torch.where(trained_RT, mean_RT, torch.zeros_like(mean_RT))


def _divergence(u_RT: Tensor, estimator: str, log_ratio_clamp: float | None) -> Tensor:
    """Estimate KL(policy || reference) of each token from ``u``, the reference's log-probability minus the policy's."""
    if estimator == "k1":
        return -u_RT
    if estimator == "k2":
        return u_RT.square() / 2
    if estimator == "abs":
        return u_RT.abs()
    u_RT = _clamp(u_RT, log_ratio_clamp)
    return u_RT.exp() - u_RT - 1


def _given(column: Tensor | None) -> Tensor:
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

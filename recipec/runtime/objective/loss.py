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

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.objective.preference_losses import VARIANTS, Scores, pair_metrics, pairs_of, sum_of
from recipec.runtime.objective.token_ratios import Correction, averaged


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of every objective of rl, in the order of its parameters."""

    logprob_RT: Tensor
    ratio_to_RT: Tensor
    advantage_RT: Tensor
    trained_RT: Tensor
    turn_RT: Tensor | None
    weight_RT: Tensor
    ref_logprob_RT: Tensor | None
    entropy_RT: Tensor | None
    sampler_logprob_RT: Tensor | None
    correction_mean_R: Tensor | None

    def log_ratio(self) -> Tensor:
        """Return the log ratio of each trained token."""
        return self.masked(self.logprob_RT - self.ratio_to_RT)

    def masked(self, column_RT: Tensor) -> Tensor:
        """Put 0 where a token is not trained."""
        return torch.where(self.trained_RT, column_RT, torch.zeros_like(column_RT))

    def masked_advantage(self) -> Tensor:
        """Return the advantage of trained tokens, as wide as the log-probabilities."""
        return self.masked(self.advantage_RT.to(self.logprob_RT.dtype))


@dataclass(frozen=True, slots=True)
class _SharedTerms:
    """The parameters of every objective of rl: see :class:`recipec.spec.loss.PolicyGradient`.

    The correction for the sampling engine weighs the policy term by old over sampler probability, the old one being
    what the ratio is taken to.
    """

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

    def add_to(self, loss_RT: Tensor, metrics: dict[str, Tensor], rows: _Columns) -> dict[str, Tensor]:
        """Add to the policy term what all objectives add; return the loss and its metrics."""
        metrics["approx_kl"] = -rows.log_ratio()
        if self.sampler_correction != "none":
            correction_RT = self._correction(rows)
            loss_RT = loss_RT * correction_RT
            metrics["sampling/importance_sampling_ratio/mean"] = correction_RT
        if self.beta:
            u_RT = rows.masked(_given(rows.ref_logprob_RT) - rows.logprob_RT)
            metrics["kl"] = _clamp(divergence(u_RT, self.kl, self.log_ratio_clamp), self.kl_clamp)
            loss_RT = loss_RT + self.beta * metrics["kl"]
        if self.entropy:
            metrics["entropy"] = rows.masked(_given(rows.entropy_RT))
            loss_RT = loss_RT - self.entropy * metrics["entropy"]
        loss = _weighted(loss_RT, rows.trained_RT, rows.weight_RT)
        return {"loss": loss, **_metrics(metrics, rows.trained_RT, rows.weight_RT)}

    def _correction(self, rows: _Columns) -> Tensor:
        """Return the weight of each token, or of its row, divided by their mean where they are normalised."""
        mismatch_RT = rows.masked(rows.ratio_to_RT - _given(rows.sampler_logprob_RT))
        how = Correction(
            self.sampler_correction,
            self.sampler_correction_level,
            self.sampler_correction_cap,
            self.sampler_correction_floor,
        )
        factor_RT = how.weights(mismatch_RT, rows.trained_RT)
        if not self.sampler_correction_normalised:
            return factor_RT
        return factor_RT / _given(rows.correction_mean_R).to(factor_RT.dtype)[:, None]


_SHARED = tuple(field.name for field in fields(_SharedTerms))


def _objective(own: Callable[..., tuple[Tensor, dict[str, Tensor]]]) -> Callable[..., dict[str, Tensor]]:
    """Make an objective of rl of its own term: it takes the columns and parameters that all of them share.

    ``own(rows, shared, **params)`` returns the policy term of each token and its metrics. An objective that says
    ``turn_RT`` gets the turns as well.
    """
    inner = inspect.signature(own)
    turns = "turn_RT" in inner.parameters
    columns = [field.name for field in fields(_Columns) if turns or field.name != "turn_RT"]
    named = [p.name for p in inner.parameters.values() if p.kind is p.KEYWORD_ONLY]

    @wraps(own)
    def objective(*given: Tensor | None, **params: Any) -> dict[str, Tensor]:
        rows = _Columns(**{"turn_RT": None, **dict(zip(columns, given, strict=True))})  # type: ignore[arg-type]
        shared = _SharedTerms(**{name: params.pop(name) for name in _SHARED})
        more = (_given(rows.turn_RT),) if turns else ()
        return shared.add_to(*own(rows, shared, *more, **params), rows)

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in columns]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in (*named, *_SHARED)]
    made: Any = objective
    made.__signature__ = inspect.Signature(parameters)
    return objective


@_objective
def clipped(
    rows: _Columns,
    shared: _SharedTerms,
    turn_RT: Tensor,
    *,
    ratio: str,
    ratio_gradient: str,
    epsilon: float,
    epsilon_high: float | None,
    dual_clip: float | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    r"""Raise the probability of good tokens within a trust region; see :class:`recipec.spec.loss.Clipped`.

    The published maximum and minimum of three terms is one clamp of the ratio; its ends depend on the sign of the
    advantage:

    .. math:: \ell = -A \rho',\quad \rho' = \min(\rho, 1+\epsilon_{high}) \text{ if } A > 0,\quad
        \min(\max(\rho, 1-\epsilon), c) \text{ if } A < 0

    ``log_ratio_clamp`` bounds the log ratio (after the mean of a turn or sequence) and the k3 estimate's
    :math:`u = \log\pi_{ref} - \log\pi`, ``kl_clamp`` the estimate that comes out. Tree-GRPO sets them to 20 and 10.
    """
    log_ratio_RT = averaged(rows.log_ratio(), rows.trained_RT, turn_RT, ratio, ratio_gradient)
    upper = epsilon if epsilon_high is None else epsilon_high
    return _surrogate(
        _clamp(log_ratio_RT, shared.log_ratio_clamp), rows.masked_advantage(), 1 - epsilon, 1 + upper, dual_clip
    )


@_objective
def cispo(
    rows: _Columns, shared: _SharedTerms, *, ratio_max: float, ratio_min: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weight the policy gradient of each token by its bounded ratio; see :class:`recipec.spec.loss.Cispo`.

    >>> from recipec.spec.loss import Cispo
    >>> column = torch.tensor([[-1.0]])
    >>> params = Cispo(ratio_max=2.0).params()
    >>> cispo(column, column - 3, column, column < 0, column / column, None, None, None, None, **params)["loss"]
    tensor(-2.)
    """
    ratio_RT = _clamp(rows.log_ratio().detach(), shared.log_ratio_clamp).exp()
    clipped_RT = ratio_RT.clamp(ratio_min, ratio_max)
    metrics = {"clip_ratio/low_mean": ratio_RT < ratio_min, "clip_ratio/high_mean": ratio_RT > ratio_max}
    return -clipped_RT * rows.masked_advantage() * rows.masked(rows.logprob_RT), metrics


@_objective
def sapo(
    rows: _Columns, shared: _SharedTerms, *, temperature_pos: float, temperature_neg: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Gate the ratio smoothly; see :class:`recipec.spec.loss.Sapo`."""
    # beyond 20 nats the gate is 1 and flat in every precision, and the gradient of an exp that overflowed is NaN
    ratio_RT = _clamp(rows.log_ratio(), shared.log_ratio_clamp).clamp(max=20.0).exp()
    advantage_RT = rows.masked_advantage()
    sharpness_RT = torch.where(advantage_RT > 0, temperature_pos, temperature_neg).to(advantage_RT.dtype)
    gate_RT = torch.sigmoid(sharpness_RT * (ratio_RT - 1)) * 4 / sharpness_RT
    return -gate_RT * advantage_RT, {}


@_objective
def gmpo(
    rows: _Columns, shared: _SharedTerms, turn_RT: Tensor, *, epsilon: float, epsilon_high: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Raise the geometric mean of clipped token ratios; see :class:`recipec.spec.loss.Gmpo`."""
    advantage_RT, log_ratio_RT = rows.masked_advantage(), rows.log_ratio()
    upper = epsilon if epsilon_high is None else epsilon_high
    clipped_RT = torch.where(advantage_RT > 0, log_ratio_RT.clamp(max=upper), log_ratio_RT.clamp(min=-epsilon))
    mean_RT = averaged(clipped_RT, rows.trained_RT, turn_RT, "sequence", "all")
    metrics = {
        "clip_ratio/low_mean": (log_ratio_RT < -epsilon) & (advantage_RT < 0),
        "clip_ratio/high_mean": (log_ratio_RT > upper) & (advantage_RT > 0),
    }
    return -advantage_RT * _clamp(mean_RT, shared.log_ratio_clamp).exp(), metrics


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

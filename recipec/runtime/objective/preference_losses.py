"""Objectives of preference pairs: the shapes of ``dpo`` by name, and the objectives that need no reference.

Both rows of a pair must be in one micro-batch; their order does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - its usual name


@dataclass(frozen=True, slots=True)
class Scores:
    """What a pair's objective depends on: log-ratios to the reference in nats, pair by pair, and the parameters.

    Example: ``VARIANTS["hinge"](Scores(torch.tensor([3.0]), torch.tensor([1.0]), 0.1, 0.0, 0.05))`` is 0.8.
    """

    chosen: Tensor
    rejected: Tensor
    beta: float
    smoothing: float
    tau: float

    @property
    def margin(self) -> Tensor:
        """How much more the policy prefers the chosen answer than the reference does, times beta."""
        return self.beta * (self.chosen - self.rejected)

    @property
    def right(self) -> Tensor:
        """Log-probability of the label, by the model of Bradley and Terry."""
        return F.logsigmoid(self.margin)

    @property
    def wrong(self) -> Tensor:
        """Log-probability of the opposite label."""
        return F.logsigmoid(-self.margin)


def _sigmoid(s: Scores) -> Tensor:
    return -(1 - s.smoothing) * s.right - s.smoothing * s.wrong


def _robust(s: Scores) -> Tensor:
    return (s.smoothing * s.wrong - (1 - s.smoothing) * s.right) / (1 - 2 * s.smoothing)


def _hinge(s: Scores) -> Tensor:
    return F.relu(1 - s.margin)


def _ipo(s: Scores) -> Tensor:
    return (s.chosen - s.rejected - 1 / (2 * s.beta)).square()


def _exo_pair(s: Scores) -> Tensor:
    kept, flipped = math.log1p(-s.smoothing), math.log(s.smoothing)
    return s.right.exp() * (s.right - kept) + s.wrong.exp() * (s.wrong - flipped)


def _nca_pair(s: Scores) -> Tensor:
    good, bad = s.beta * s.chosen, s.beta * s.rejected
    return -F.logsigmoid(good) - (F.logsigmoid(-good) + F.logsigmoid(-bad)) / 2


def _bco_pair(s: Scores) -> Tensor:
    return -F.logsigmoid(s.beta * s.chosen) - F.logsigmoid(-s.beta * s.rejected)


def _sppo_hard(s: Scores) -> Tensor:
    return (s.chosen - 1 / (2 * s.beta)).square() + (s.rejected + 1 / (2 * s.beta)).square()


def _apo_zero(s: Scores) -> Tensor:
    return torch.sigmoid(-s.beta * s.chosen) + torch.sigmoid(s.beta * s.rejected)


def _apo_down(s: Scores) -> Tensor:
    return torch.sigmoid(s.beta * s.chosen) + torch.sigmoid(-s.margin)


def _discopop(s: Scores) -> Tensor:
    scaled = s.margin / s.tau
    # one exponential of a sum: a blend of 0 times an exponential that overflows would have no gradient
    return -torch.sigmoid(-scaled) * s.right + torch.exp(F.logsigmoid(scaled) - s.margin)


VARIANTS: dict[str, Callable[[Scores], Tensor]] = {
    "sigmoid": _sigmoid,
    "robust": _robust,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
    "discopop": _discopop,
}


def cpo(
    logprob_RT: Tensor,
    trained_RT: Tensor,
    by_pair_R: Tensor,
    chosen_R: Tensor,
    weight_R: Tensor,
    weight_RT: Tensor | None,
    *,
    beta: float,
    variant: str,
    label_smoothing: float,
    nll: float,
) -> dict[str, Tensor]:
    """Prefer the chosen answer without a reference, and imitate it; see :class:`recipec.spec.loss.Cpo`."""
    logp_R = (mean_of if variant == "ipo" else sum_of)(logprob_RT, trained_RT)
    pairs = _Pairs.of(logp_R, by_pair_R, chosen_R)
    loss = VARIANTS[variant](Scores(*pairs.scores, beta, label_smoothing, 1.0))
    return pairs.preferred(loss, beta, weight_R, imitated(logprob_RT, trained_RT, weight_RT, nll))


def simpo(
    logprob_RT: Tensor,
    trained_RT: Tensor,
    by_pair_R: Tensor,
    chosen_R: Tensor,
    weight_R: Tensor,
    weight_RT: Tensor | None,
    *,
    beta: float,
    gamma: float,
    label_smoothing: float,
    nll: float,
) -> dict[str, Tensor]:
    """Prefer the answer that is likelier per token, by a margin; see :class:`recipec.spec.loss.Simpo`."""
    pairs = _Pairs.of(mean_of(logprob_RT, trained_RT), by_pair_R, chosen_R)
    good, bad = pairs.scores
    loss = _sigmoid(Scores(good - gamma / beta, bad, beta, label_smoothing, 1.0))
    return pairs.preferred(loss, beta, weight_R, imitated(logprob_RT, trained_RT, weight_RT, nll))


def orpo(
    logprob_RT: Tensor,
    trained_RT: Tensor,
    by_pair_R: Tensor,
    chosen_R: Tensor,
    weight_R: Tensor,
    weight_RT: Tensor,
    *,
    beta: float,
) -> dict[str, Tensor]:
    """Imitate the chosen answer and raise its odds over the rejected one's; see :class:`recipec.spec.loss.Orpo`."""
    pairs = _Pairs.of(mean_of(logprob_RT, trained_RT), by_pair_R, chosen_R)
    good, bad = (logp - _log1mexp(logp) for logp in pairs.scores)
    loss = -beta * F.logsigmoid(good - bad)
    return pairs.preferred(loss, beta, weight_R, imitated(logprob_RT, trained_RT, weight_RT, 1.0))


def kto(
    logprob_RT: Tensor,
    ref_logprob_RT: Tensor,
    trained_RT: Tensor,
    desirable_R: Tensor,
    baseline_R: Tensor,
    weight_R: Tensor,
    *,
    beta: float,
    desirable_weight: float,
    undesirable_weight: float,
) -> dict[str, Tensor]:
    """Raise the utility of labelled answers over a baseline; see :class:`recipec.spec.loss.Kto`."""
    log_ratio_R = sum_of(logprob_RT, trained_RT) - sum_of(ref_logprob_RT, trained_RT)
    over_R = beta * (log_ratio_R - baseline_R.to(log_ratio_R.dtype))
    weight_R = weight_R.to(log_ratio_R.dtype)
    good_R = torch.where(desirable_R, weight_R, torch.zeros_like(weight_R))
    bad_R = weight_R - good_R
    loss = (
        desirable_weight * (good_R * torch.sigmoid(-over_R)).sum()
        + undesirable_weight * (bad_R * torch.sigmoid(over_R)).sum()
    )
    reward_R = (beta * log_ratio_R).detach()
    metrics = {"kl": (weight_R * baseline_R.to(weight_R.dtype)).sum()}
    for label, share_R in (("desirable", good_R), ("undesirable", bad_R)):
        metrics[f"rewards/{label}"] = torch.stack([(share_R * reward_R).sum(), share_R.sum()])
    return {"loss": loss, **{f"metric/{name}": value.detach() for name, value in metrics.items()}}


def pairs_of(by_pair_R: Tensor, chosen_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the chosen and of the rejected rows, pair by pair.

    >>> pairs_of(torch.tensor([8, 5, 5, 8]), torch.tensor([False, True, False, True]))
    (tensor([1, 3]), tensor([2, 0]))
    """
    order = torch.argsort(by_pair_R, stable=True)
    chosen, rejected = order[chosen_R[order]], order[~chosen_R[order]]
    assert torch.equal(by_pair_R[chosen], by_pair_R[rejected]), "a pair is split, or has more than two rows"
    return chosen, rejected


def sum_of(logprob_RT: Tensor, trained_RT: Tensor) -> Tensor:
    """Add the log-probabilities of each row's trained tokens."""
    return torch.where(trained_RT, logprob_RT, torch.zeros_like(logprob_RT)).sum(-1)


def mean_of(logprob_RT: Tensor, trained_RT: Tensor) -> Tensor:
    """Average the log-probabilities of each row's trained tokens; 0 for a row without any."""
    return sum_of(logprob_RT, trained_RT) / trained_RT.sum(-1).clamp(min=1)


def imitated(logprob_RT: Tensor, trained_RT: Tensor, weight_RT: Tensor | None, nll: float) -> Tensor | float:
    """Return ``nll`` times the weighted negative log-likelihood of chosen answers; rejected ones have weight 0."""
    if not nll:
        return 0.0
    assert weight_RT is not None, "the compiler binds what a param asks for"
    return -nll * sum_of(logprob_RT * weight_RT.to(logprob_RT.dtype), trained_RT).sum()


def pair_metrics(metrics: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Return detached sums over pairs with their weights."""
    with torch.no_grad():
        return {f"metric/{name}": (column.to(weight.dtype) * weight).sum() for name, column in metrics.items()}


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Scores of the chosen and the rejected answers, pair by pair, and the rows of the chosen ones."""

    scores: tuple[Tensor, Tensor]
    chosen: Tensor

    @classmethod
    def of(cls, score_R: Tensor, by_pair_R: Tensor, chosen_R: Tensor) -> _Pairs:
        """Put the scores of rows into pairs."""
        chosen, rejected = pairs_of(by_pair_R, chosen_R)
        return cls((score_R[chosen], score_R[rejected]), chosen)

    def preferred(self, loss: Tensor, beta: float, weight_R: Tensor, imitation: Tensor | float) -> dict[str, Tensor]:
        """Weigh the losses of pairs, add the likelihood, and name what is measured as TRL does."""
        weight = weight_R[self.chosen]
        good, bad = (beta * score for score in self.scores)
        metrics = {
            "rewards/chosen": good,
            "rewards/rejected": bad,
            "rewards/margins": good - bad,
            "rewards/accuracies": good > bad,
        }
        return {"loss": (loss * weight).sum() + imitation, **pair_metrics(metrics, weight)}


def _log1mexp(x: Tensor) -> Tensor:
    """Compute log(1 - exp(x)) for x < 0, accurate near both ends; x is at most that of a probability of 1 - 1e-7."""
    x = x.clamp(max=-1e-7)
    near = x > -math.log(2)
    # each branch sees harmless values where the other is taken: NaN gradients would pass through `where`
    small, large = torch.where(near, x, -0.1), torch.where(near, -1.0, x)
    return torch.where(near, torch.log(-torch.expm1(small)), torch.log1p(-torch.exp(large)))

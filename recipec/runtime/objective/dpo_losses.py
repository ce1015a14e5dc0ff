"""Shapes of the preference objective, by name; see :class:`recipec.spec.loss.Dpo` for formulas and papers."""

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

"""Training objectives; each is a sum over tokens or pairs, weighted by their share of the whole minibatch.

``definition`` is what all have, ``policy_gradient`` are those of rl stages, ``imitation`` those of given answers,
``preference`` those of pairs, ``distillation`` those of a teacher's distributions.
"""

from recipec.spec.loss.definition import Aggregate, Loss
from recipec.spec.loss.distillation import Gkd
from recipec.spec.loss.imitation import Kto, Nll
from recipec.spec.loss.policy_gradient import (
    Cispo,
    ClipCov,
    Clipped,
    Gmpo,
    KlCov,
    PolicyAggregate,
    PolicyGradient,
    Sapo,
)
from recipec.spec.loss.preference import BradleyTerry, Cpo, Dpo, Orpo, Simpo

__all__ = [
    "Aggregate",
    "BradleyTerry",
    "Cispo",
    "ClipCov",
    "Clipped",
    "Cpo",
    "Dpo",
    "Gkd",
    "Gmpo",
    "KlCov",
    "Kto",
    "Loss",
    "Nll",
    "Orpo",
    "PolicyAggregate",
    "PolicyGradient",
    "Sapo",
    "Simpo",
]

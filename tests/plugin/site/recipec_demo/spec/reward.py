"""A reward of lengths."""

from typing import ClassVar, Literal

from recipec.component import component, param
from recipec.spec.reward import Reward


@component(
    "reward",
    requires=("trained_RT",),
    provides=("reward_R",),
    impl="recipec_demo.runtime.reward:even_length",
    lowered=("weight",),
)
class EvenLength(Reward):
    """Reward a completion with an even number of tokens."""

    outcomes: ClassVar[tuple[str, str]] = ("even", "odd")

    type: Literal["even_length"] = "even_length"
    even: float = param(1.0, "Reward of an even number of tokens.", unit="reward units")
    odd: float = param(0.0, "Reward of an odd number of tokens.", unit="reward units")

"""Preference pairs by length."""

from typing import Literal

from recipec.component import SignalRef, component, param
from recipec.spec.preference import Preference


@component(
    "preference",
    requires=("rollouts",),
    provides=("prompt_P", "chosen_P", "rejected_P"),
    impl="recipec_demo.runtime.preference:LongestVsShortest",
    uses=("policy",),
)
class LongestVsShortest(Preference):
    """Pair the longest with the shortest rollout of each prompt from an earlier stage."""

    type: Literal["longest_vs_shortest"] = "longest_vs_shortest"
    rollouts: SignalRef = param(..., "Rollouts to read, as `STAGE.rollouts`.")
    min_difference: int = param(1, "Minimum difference in length of a pair.", unit="tokens", ge=1)

"""An advantage by rank."""

from typing import Literal

from recipec.component import SignalRef, component, param
from recipec.spec.advantage import Advantage


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec_demo.runtime.advantage:ranked",
)
class Ranked(Advantage):
    r"""Advantage of each row from its rank in its group, between -1 and 1.

    .. math:: A_r = w \, (2 \operatorname{rank}_{g(r)}(v_r) / (n - 1) - 1)

    Equal values share the mean of their ranks; a row that is alone in its group gets 0.
    """

    type: Literal["ranked"] = "ranked"
    group: SignalRef = param(
        "by_prompt_R", "Signal that assigns rows to groups: rows with the same value are compared."
    )

    @property
    def alone(self) -> Literal["zero"]:
        """Zero: there is nothing to rank."""
        return "zero"

    def largest_credit(self, size: int) -> float:  # noqa: ARG002 - ranks end at 1 in a group of any size
        """Return the weight."""
        return abs(self.weight)

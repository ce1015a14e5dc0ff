"""What an objective is, and the forms of its average over tokens."""

from typing import ClassVar, Literal

from recipec.component import Component

Aggregate = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "fixed"]
AGGREGATE = (
    "How token losses are averaged: over all trained tokens (`token_mean`); per row, then over rows "
    "(`seq_mean_token_mean`); summed per row, then averaged over rows (`seq_mean_token_sum`); "
    "or the sum divided by the number of rows times `normaliser` (`fixed`)."
)
"""What the parameter `aggregate` says of itself."""


class Loss(Component):
    """Base class of objectives."""

    slot: ClassVar[str] = "loss"

    def credit_alone(self) -> bool:
        """Whether a sample with credit 0 on every token adds nothing to the loss or its gradient."""
        return False

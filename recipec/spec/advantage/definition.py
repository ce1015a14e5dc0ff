"""What every advantage level has."""

from typing import ClassVar, Literal

from recipec.component import Component, SignalRef, param


class Advantage(Component):
    """Base class of advantage levels."""

    slot: ClassVar[str] = "advantage"
    over_tokens: ClassVar[str] = ""
    """Implementation with statistics over tokens, for `combine: per_token`; empty if there is none."""
    token_params: ClassVar[tuple[str, ...]] = ()
    """Parameters of ``over_tokens``."""

    value: SignalRef = param(
        "reward_R",
        "Signal to compare: `reward_R`, `score_R` (episode total) or `return_R` (discounted return); `reward.LEVEL` is "
        "one level of the reward, without its weight.",
    )
    weight: float = param(1.0, "Weight of this level in the combined advantage.")

    @property
    def compares(self) -> str | None:
        """The signal of the groups in which rows are compared; ``None`` if rows are not compared.

        >>> from recipec.spec.advantage import GroupRelative, Signed
        >>> GroupRelative(group="by_tree_R").compares, Signed().compares
        ('by_tree_R', None)
        """
        groups = (need.signal for need in self.requires() if need.parameter.startswith(("group_", "by_")))
        return next(groups, None)

    @property
    def alone(self) -> Literal["value", "zero"] | None:
        """Advantage of a row that is alone in its group: its value or zero; ``None`` if that is not known."""
        return None

    @property
    def always_zero(self) -> bool:
        """Whether every row has advantage 0, regardless of its value."""
        return self.weight == 0

    def largest_credit(self, size: int) -> float | None:  # noqa: ARG002 - a level that is bounded reads it
        """Return the largest absolute advantage in a group of ``size`` rows; ``None`` if it is unbounded.

        >>> from recipec.spec.advantage import GroupRelative
        >>> GroupRelative(weight=2).largest_credit(4)
        3.0
        """
        return None

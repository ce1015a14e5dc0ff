"""Credit: named levels that add."""

from __future__ import annotations

from math import sqrt
from typing import ClassVar, Literal

from recipec.component import Component, SignalRef, component, param, when


class Advantage(Component):
    """Base class of advantage levels."""

    slot: ClassVar[str] = "advantage"
    over_tokens: ClassVar[str] = ""
    """Implementation that compares tokens instead of rows under `combine: per_token`; empty where there is none."""
    token_params: ClassVar[tuple[str, ...]] = ()
    """The parameters that ``over_tokens`` takes."""

    value: SignalRef = param("reward_R", "The column that is compared.")
    weight: float = param(1.0, "Factor of this level in the sum.")

    @property
    def compares(self) -> str | None:
        """The signal of the groups in which rows are compared; ``None`` where each row is credited alone.

        >>> GroupRelative(group="by_tree_R").compares, Signed().compares
        ('by_tree_R', None)
        """
        groups = (need.signal for need in self.requires() if need.parameter.startswith(("group_", "by_")))
        return next(groups, None)

    @property
    def alone(self) -> Literal["value", "zero"] | None:
        """What a row that is alone in its group is credited with; ``None`` where that is not known."""
        return None

    @property
    def always_zero(self) -> bool:
        """Whether every row is credited with 0, whatever its value."""
        return self.weight == 0

    def largest_credit(self, size: int) -> float | None:  # noqa: ARG002 - a level that is bounded reads it
        """Return the largest credit that a row can have in a group of ``size`` rows; ``None`` where nothing bounds it.

        >>> GroupRelative(weight=2).largest_credit(4)
        3.0
        """
        return None


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R", when("statistics", "trajectories", "episode_id_R")),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:group_relative",
)
class GroupRelative(Advantage):
    r"""Credit each row with its value relative to its group.

    .. math:: A_r = w \, \frac{v_r - \operatorname{mean}_{g(r)} v}{\operatorname{std}_{g(r)} v + \epsilon}

    Exactly 0 for a group of equal values. ``scale: none`` is Dr. GRPO. A row alone in its group is compared with
    mean 0 and deviation 1 under ``singleton: raw``, and gets 0 under ``zero``.
    Trees of three leaves as the only groups are a trap: published runs that had no other level collapsed.

    References:
        Shao et al., `DeepSeekMath <https://arxiv.org/abs/2402.03300>`_, 2024.
        Liu et al., `Understanding R1-Zero-Like Training <https://arxiv.org/abs/2503.20783>`_, 2025.
    """

    over_tokens: ClassVar[str] = "recipec.runtime.objective.advantage:token_relative"
    token_params: ClassVar[tuple[str, ...]] = ("weight", "scale", "singleton", "epsilon")

    type: Literal["group_relative"] = "group_relative"
    group: SignalRef = param("by_prompt_R", "The column that says who is compared with whom.")
    scale: Literal["std", "none"] = param("std", "Divide by the group's sample standard deviation (ddof 1), or not.")
    singleton: Literal["raw", "zero"] = param("zero", "Credit of a row alone in its group: its value, or none.")
    statistics: Literal["rows", "trajectories"] = param(
        "rows", "Count every row, or each episode once (by its first row), in mean and deviation."
    )
    epsilon: float = param(1e-6, "Added to the deviation.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """The value itself, or nothing."""
        return "value" if self.singleton == "raw" else "zero"

    def largest_credit(self, size: int) -> float | None:
        """Return the largest z-score of one among ``size`` values, (n - 1) / sqrt(n), times the weight."""
        return abs(self.weight) * (size - 1) / sqrt(size) if self.scale == "std" else None


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:rloo",
)
class Rloo(Advantage):
    r"""Credit each row with its value minus the mean of the others in its group.

    .. math:: A_r = w \left(v_r - \frac{1}{n-1}\sum_{s \ne r} v_s\right)

    References:
        Ahmadian et al., `Back to Basics <https://arxiv.org/abs/2402.14740>`_, 2024.
    """

    type: Literal["rloo"] = "rloo"
    group: SignalRef = param("by_prompt_R", "The column that says who is compared with whom.")
    singleton: Literal["raw", "zero"] = param("zero", "Credit of a row alone in its group: its value, or none.")

    @property
    def alone(self) -> Literal["value", "zero"]:
        """The value itself, or nothing."""
        return "value" if self.singleton == "raw" else "zero"


@component(
    "advantage",
    requires=("value_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:signed",
)
class Signed(Advantage):
    r"""Credit a row by whether its value is above a threshold, without a group.

    .. math:: A_r = w \, (\text{positive if } v_r > \text{threshold, else negative})

    A wrong answer is never reinforced for being the best of a bad group; all-right and all-wrong groups still teach.
    That a likelier wrong answer is penalised more, as a figure of the paper has it, needs no rule of its own: the
    objective weighs credit with the probability ratio, and its gradient with it.
    Reconstructed from the abstract and that figure, not from a published formula.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025 (GRPO++).
    """

    type: Literal["signed"] = "signed"
    threshold: float = param(0.0, "Values above it are right.", unit="units of value")
    positive: float = param(1.0, "Credit of a right row.")
    negative: float = param(-1.0, "Credit of a wrong row.")

    @property
    def always_zero(self) -> bool:
        """Whether right and wrong rows are both credited with 0."""
        return self.weight == 0 or self.positive == self.negative == 0


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:batch_standardised",
)
class BatchStandardised(Advantage):
    r"""Centre each row on its group's mean, then divide by the deviation over the whole batch.

    .. math:: A_r = w \, \frac{v_r - \operatorname{mean}_{g(r)} v}{\operatorname{std}_{batch}(v) + \epsilon}

    References:
        TRL, ``scale_rewards="batch"``; Hu, `REINFORCE++ <https://arxiv.org/abs/2501.03262>`_, 2025.
    """

    type: Literal["batch_standardised"] = "batch_standardised"
    group: SignalRef = param("by_prompt_R", "The column that says who is compared with whom.")
    epsilon: float = param(1e-6, "Added to the deviation.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Nothing: it is its group's mean."""
        return "zero"

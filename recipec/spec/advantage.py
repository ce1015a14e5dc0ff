"""Credit: named levels that add."""

from __future__ import annotations

from typing import Literal

from recipec.component import Component, SignalRef, component, param, when


class _Level(Component):
    """What every advantage level can say."""

    value: SignalRef = param("reward_R", "The column that is compared.")
    weight: float = param(1.0, "Factor of this level in the sum.")


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R", when("statistics", "trajectories", "episode_id_R")),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:group_relative",
)
class GroupRelative(_Level):
    r"""Credit each row with its value relative to its group.

    .. math:: A_r = w \, \frac{v_r - \operatorname{mean}_{g(r)} v}{\operatorname{std}_{g(r)} v + \epsilon}

    Exactly 0 for a group of equal values. ``scale: none`` is Dr. GRPO. A row alone in its group is compared with
    mean 0 and deviation 1 under ``singleton: raw``, and gets 0 under ``zero``.
    Trees of three leaves as the only groups are a trap: published runs that had no other level collapsed.

    References:
        Shao et al., `DeepSeekMath <https://arxiv.org/abs/2402.03300>`_, 2024.
        Liu et al., `Understanding R1-Zero-Like Training <https://arxiv.org/abs/2503.20783>`_, 2025.
    """

    type: Literal["group_relative"] = "group_relative"
    group: SignalRef = param("by_prompt_R", "The column that says who is compared with whom.")
    scale: Literal["std", "none"] = param("std", "Divide by the group's sample standard deviation (ddof 1), or not.")
    singleton: Literal["raw", "zero"] = param("zero", "Credit of a row alone in its group: its value, or none.")
    statistics: Literal["rows", "trajectories"] = param(
        "rows", "Count every row, or each episode once (by its first row), in mean and deviation."
    )
    epsilon: float = param(1e-6, "Added to the deviation.", unit="units of value", ge=0)


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:rloo",
)
class Rloo(_Level):
    r"""Credit each row with its value minus the mean of the others in its group.

    .. math:: A_r = w \left(v_r - \frac{1}{n-1}\sum_{s \ne r} v_s\right)

    References:
        Ahmadian et al., `Back to Basics <https://arxiv.org/abs/2402.14740>`_, 2024.
    """

    type: Literal["rloo"] = "rloo"
    group: SignalRef = param("by_prompt_R", "The column that says who is compared with whom.")
    singleton: Literal["raw", "zero"] = param("zero", "Credit of a row alone in its group: its value, or none.")


@component(
    "advantage",
    requires=("value_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:signed",
)
class Signed(_Level):
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


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:batch_standardised",
)
class BatchStandardised(_Level):
    r"""Centre each row on its group's mean, then divide by the deviation over the whole batch.

    .. math:: A_r = w \, \frac{v_r - \operatorname{mean}_{g(r)} v}{\operatorname{std}_{batch}(v) + \epsilon}

    References:
        TRL, ``scale_rewards="batch"``; Hu, `REINFORCE++ <https://arxiv.org/abs/2501.03262>`_, 2025.
    """

    type: Literal["batch_standardised"] = "batch_standardised"
    group: SignalRef = param("by_prompt_R", "The column that says who is compared with whom.")
    epsilon: float = param(1e-6, "Added to the deviation.", unit="units of value", ge=0)

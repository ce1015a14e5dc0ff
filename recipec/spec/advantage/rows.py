"""Levels that give an advantage to each row."""

from math import sqrt
from typing import ClassVar, Literal

from recipec.component import SignalRef, component, param, when
from recipec.spec.advantage.definition import Advantage


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R", when("statistics", "trajectories", "episode_id_R")),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:group_relative",
)
class GroupRelative(Advantage):
    r"""Advantage of each row relative to its group (GRPO).

    .. math:: A_r = w \, \frac{v_r - \operatorname{mean}_{g(r)} v}{\operatorname{std}_{g(r)} v + \epsilon}

    Exactly 0 for a group of equal values. ``scale: none`` does not divide, as in Dr. GRPO. ``scale: mean`` divides by
    the mean of the group in place of the deviation, as in MaxRL, so that prompts with few right answers weigh more; a
    group with a mean of 0 or less has advantage 0. A row that is alone in its
    group uses mean 0 and standard deviation 1 under ``singleton: raw``, and gets advantage 0 under ``zero``.
    Do not use trees of three leaves as the only groups: published runs without a second level collapsed.

    References:
        Shao et al., `DeepSeekMath <https://arxiv.org/abs/2402.03300>`_, 2024.
        Liu et al., `Understanding R1-Zero-Like Training <https://arxiv.org/abs/2503.20783>`_, 2025.
        `Maximum Likelihood Reinforcement Learning <https://arxiv.org/abs/2602.02710>`_, 2026 (MaxRL).
    """

    over_tokens: ClassVar[str] = "recipec.runtime.objective.advantage:token_relative"
    token_params: ClassVar[tuple[str, ...]] = ("weight", "scale", "singleton", "epsilon")

    type: Literal["group_relative"] = "group_relative"
    group: SignalRef = param(
        "by_prompt_R", "Signal that assigns rows to groups: rows with the same value are compared."
    )
    scale: Literal["std", "mean", "none"] = param(
        "std",
        "`std` divides by the sample standard deviation of the group (ddof 1), `mean` by its mean (MaxRL), `none` does "
        "not.",
    )
    singleton: Literal["raw", "zero"] = param(
        "zero", "Advantage of a row that is alone in its group: its value (`raw`) or 0 (`zero`)."
    )
    statistics: Literal["rows", "trajectories"] = param(
        "rows",
        "Mean and standard deviation over all rows, or over episodes (`trajectories`), each counted by its first row.",
    )
    epsilon: float = param(1e-6, "Added to the standard deviation, or to the mean.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """The value itself, or zero."""
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
    r"""Leave-one-out advantage: the row's value minus the mean of the other rows of its group.

    .. math:: A_r = w \left(v_r - \frac{1}{n-1}\sum_{s \ne r} v_s\right)

    References:
        Ahmadian et al., `Back to Basics <https://arxiv.org/abs/2402.14740>`_, 2024.
    """

    type: Literal["rloo"] = "rloo"
    group: SignalRef = param(
        "by_prompt_R", "Signal that assigns rows to groups: rows with the same value are compared."
    )
    singleton: Literal["raw", "zero"] = param(
        "zero", "Advantage of a row that is alone in its group: its value (`raw`) or 0 (`zero`)."
    )

    @property
    def alone(self) -> Literal["value", "zero"]:
        """The value itself, or zero."""
        return "value" if self.singleton == "raw" else "zero"


@component(
    "advantage",
    requires=("value_R", "by_prompt_R", "greedy_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:remax",
)
class Remax(Advantage):
    r"""Value of the row minus that of the greedy completion of its prompt (ReMax).

    .. math:: A_r = w \, (v_r - v_{\text{greedy}(p(r))})

    Needs ``greedy_first`` of the sampler. The greedy row itself has advantage 0. If it has no reward, the other rows of
    its prompt have advantage 0, too.

    References:
        Li et al., `ReMax <https://arxiv.org/abs/2310.10505>`_, 2024, algorithm 1.
    """

    type: Literal["remax"] = "remax"

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Zero: the only row of a prompt is the greedy one."""
        return "zero"


@component(
    "advantage",
    requires=("value_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:signed",
)
class Signed(Advantage):
    r"""Fixed positive or negative advantage, depending on whether the value is above a threshold; needs no group.

    .. math:: A_r = w \, (\text{positive if } v_r > \text{threshold, else negative})

    A wrong answer is never reinforced for being the best of a bad group, and groups with only correct or only wrong
    answers still give a gradient. A figure of the paper shows likelier wrong answers penalised more; this needs no
    separate rule, since the objective multiplies the advantage by the probability ratio.
    Reconstructed from the paper's abstract and that figure; no formula is published.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025 (GRPO++).
    """

    type: Literal["signed"] = "signed"
    threshold: float = param(0.0, "Rows with a value above it count as correct.", unit="units of value")
    positive: float = param(1.0, "Advantage of a correct row.")
    negative: float = param(-1.0, "Advantage of an incorrect row.")

    @property
    def always_zero(self) -> bool:
        """Whether correct and incorrect rows both have advantage 0."""
        return self.weight == 0 or self.positive == self.negative == 0


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:batch_standardised",
)
class BatchStandardised(Advantage):
    r"""Value minus the group mean, divided by the standard deviation over the whole batch.

    .. math:: A_r = w \, \frac{v_r - \operatorname{mean}_{g(r)} v}{\operatorname{std}_{batch}(v) + \epsilon}

    References:
        TRL, ``scale_rewards="batch"``; Hu, `REINFORCE++ <https://arxiv.org/abs/2501.03262>`_, 2025.
    """

    type: Literal["batch_standardised"] = "batch_standardised"
    group: SignalRef = param(
        "by_prompt_R", "Signal that assigns rows to groups: rows with the same value are compared."
    )
    epsilon: float = param(1e-6, "Added to the standard deviation.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Zero: the row is the mean of its group."""
        return "zero"


@component(
    "advantage",
    requires=("value_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:reinforce",
)
class Reinforce(Advantage):
    r"""The value itself, without a baseline (REINFORCE).

    .. math:: A_r = w \, v_r

    With ``whiten: tokens``, the mean of the whole batch is the baseline, as in REINFORCE++: groups are not needed.

    References:
        Williams, `REINFORCE <https://doi.org/10.1007/BF00992696>`_, 1992.
        Hu, `REINFORCE++ <https://arxiv.org/abs/2501.03262>`_, 2025.
    """

    type: Literal["reinforce"] = "reinforce"


@component(
    "advantage",
    requires=("value_R", "group_R", "episode_id_R", "step_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:history_groups",
)
class HistoryGroups(Advantage):
    r"""Advantage of each step among steps with the same last states, over histories of every length (HGPO).

    .. math:: A_r = w \frac{\sum_k (k + o)^\alpha A^{(k)}_r}{\sum_k (k + o)^\alpha},\quad
        A^{(k)}_r = \frac{v_r - \operatorname{mean}_{G_k(r)} v}{\operatorname{std}_{G_k(r)} v + \epsilon}

    :math:`G_k(r)` are the steps of the prompt with the state and the last :math:`k \le K` states before it of step
    r. The deviation is that of the population (ddof 0). As in the authors' code, a group of one step, and one in which
    the step is at the mean, are left out of both sums. ``group`` says which states are equal.

    References:
        He et al., `HGPO <https://arxiv.org/abs/2602.22817>`_, 2026; langfengQ/verl-agent, `recipe/hgpo`.
    """

    type: Literal["history_groups"] = "history_groups"
    value: SignalRef = param("return_R", "Signal to compare.")
    group: SignalRef = param(
        "by_anchor_R", "Signal that assigns steps to states: steps with the same value are in one."
    )
    history: int = param(2, "Largest number of states before that of the step (K).", unit="steps", ge=0)
    exponent: float = param(1.0, "Exponent of the weight of a history (alpha); 0 weighs all alike.", ge=0)
    offset: float = param(1.0, "Added to the number of earlier states: 1 as in the paper, 2 as in its code.", gt=0)
    scale: Literal["std", "none"] = param("std", "`std` divides by the deviation of the group, `none` does not.")
    epsilon: float = param(1e-6, "Added to the standard deviation.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Zero: a step alone in its state is in no group."""
        return "zero"


@component(
    "advantage",
    requires=("value_R", "group_R", "by_prompt_R", "score_R", "episode_id_R", "step_R", "text_R", "failed_R"),
    provides=("advantage_R",),
    impl="recipec.runtime.objective.advantage:state_action",
)
class StateAction(Advantage):
    r"""Advantage of each step: what its action is worth in its state, less what the state is worth (RTMC).

    .. math:: A_r = w \, (Q(s, a) - V(s)),\quad Q(s, a) = \operatorname{mean}_{(s, a)} v,\quad
        V(s) = \frac{N(s) \operatorname{mean}_s v + n \bar{R}}{N(s) + n}

    Means are over the first visit of each episode to a state with an action; :math:`\bar{R}` is the mean score of the
    prompt's episodes, which counts as ``prior`` visits. ``group`` says which states are equal. Actions are equal if
    their words are: with ``action_tag`` those inside of it, so that thoughts do not tell actions apart. The paper
    compares signatures of states and actions that are written for one kind of environment.

    References:
        Wang et al., `RTMC <https://arxiv.org/abs/2604.11037>`_, 2026; its eq. 11 is the prior.
    """

    type: Literal["state_action"] = "state_action"
    value: SignalRef = param("return_R", "Signal to average.")
    group: SignalRef = param(
        "by_anchor_R", "Signal that assigns steps to states: steps with the same value are in one."
    )
    action_tag: str | None = param(None, "Tag around the action in a turn; the whole turn is compared if omitted.")
    prior: float = param(2.0, "Visits that the mean score of the prompt counts for in a state.", unit="visits", ge=0)
    scale: Literal["std", "none"] = param(
        "none", "`std` divides by the deviation of the prompt's advantages, without centring them."
    )
    epsilon: float = param(1e-6, "Added to the standard deviation.", unit="units of value", ge=0)

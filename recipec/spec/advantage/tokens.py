"""Levels that give an advantage to each token."""

from math import sqrt
from typing import Literal

from recipec.component import SignalRef, component, param, when
from recipec.spec.advantage.definition import Advantage


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R", "tokens_RT", "attend_RT", "trained_RT"),
    provides=("advantage_RT",),
    impl="recipec.runtime.objective.prefix_values:prefix_value",
)
class PrefixValue(Advantage):
    r"""Credit of each token by how it changes the mean value of the rows that begin alike.

    .. math:: A_t = w \, \frac{V(s_{t+1}) - V(s_t)}{\operatorname{std}_g v + \epsilon},\quad
        V(s) = \operatorname{mean} \{v_r : \text{row } r \text{ of the group begins with } s\}

    Rows of a prompt form a prefix tree, whether or not a tree was searched. Where no rows part, :math:`V` does not
    change and the credit is 0; so add a level of the outcome, such as `group_relative`: the sum is TEMPO's
    advantage, equal to that of the authors' code.

    References:
        Tran et al., `TEMPO <https://arxiv.org/abs/2509.18314>`_, 2025; fatebreaker/tempo.
    """

    type: Literal["prefix_value"] = "prefix_value"
    group: SignalRef = param("by_prompt_R", "Signal that assigns rows to groups: rows of one group form a prefix tree.")
    scale: Literal["std", "none"] = param(
        "std", "`std` divides by the sample standard deviation of the group (ddof 1), `none` does not."
    )
    epsilon: float = param(1e-6, "Added to the standard deviation.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Zero: a row alone has no branches."""
        return "zero"


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R", "tokens_RT", "attend_RT", "trained_RT"),
    provides=("advantage_RT",),
    impl="recipec.runtime.objective.prefix_values:leaf_mean",
)
class LeafMean(Advantage):
    r"""Advantage of each token: the mean of the advantages of the rows that go through it (TreeAdv).

    .. math:: A_t = w \operatorname{mean} \{A_r : \text{row } r \text{ of the group begins with } s_{t+1}\},\quad
        A_r = \frac{v_r - \operatorname{mean}_g v}{\operatorname{std}_g v + \epsilon}

    Rows are the leaves of trees, searched or found in chains that begin alike. A segment of the tree stands
    in every row below it. With ``shared: each`` it is trained on in each of them: only clipping then tells its
    gradient from that of ``group_relative``, which gives each copy the advantage of its row. With ``once`` the mean is
    divided among the copies, so that a segment counts as one.

    The paper's abstract says that advantages of all leaves are redistributed to the segments above them. That the
    weights are equal, and ``shared``, are our reading: the equations were not available for comparison.

    References:
        Cao et al., `TreeAdv <https://arxiv.org/abs/2601.03703>`_, 2026.
    """

    type: Literal["leaf_mean"] = "leaf_mean"
    group: SignalRef = param("by_prompt_R", "Signal that assigns rows to groups: rows of one group form a prefix tree.")
    shared: Literal["each", "once"] = param(
        "each", "Tokens that rows share: trained on with the mean in each row, or with the mean divided among the rows."
    )
    scale: Literal["std", "none"] = param(
        "std", "`std` divides by the sample standard deviation of the group (ddof 1), `none` does not."
    )
    epsilon: float = param(1e-6, "Added to the standard deviation.", unit="units of value", ge=0)

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Zero: a row alone is the mean of its group."""
        return "zero"

    def largest_credit(self, size: int) -> float | None:
        """Return the largest z-score of one among ``size`` values, times the weight: a mean is not above it."""
        return abs(self.weight) * (size - 1) / sqrt(size) if self.scale == "std" else None


@component(
    "advantage",
    requires=(
        "value_R",
        "failed_R",
        "old_value_RT",
        "trained_RT",
        when("beta", "old_logprob_RT"),
        when("beta", "ref_logprob_RT"),
    ),
    provides=("advantage_RT", "target_value_RT"),
    impl="recipec.runtime.objective.gae:gae",
)
class Gae(Advantage):
    r"""Generalised advantage estimation of each token, by the values of a `critic` (PPO).

    .. math:: A_t = w \sum_{k \ge 0} (\gamma\lambda)^k \delta_{t+k},\quad
        \delta_t = r_t + \gamma V(s_{t+1}) - V(s_t),\quad r_t = [t \text{ is last}] \, v - \beta \, d_t

    :math:`V` is the value that the critic gave before the updates of the step, and 0 after the last token. Steps are
    tokens that the policy wrote: what an environment or a tool wrote between them takes no step, as in verl. In a tree
    the credit goes along the path from the root to each leaf. The critic learns :math:`A_t / w + V(s_t)`.

    With ``beta`` each token pays for its divergence :math:`d_t` from the reference, as in the reward of InstructGPT;
    a KL penalty in the loss is ``loss.beta``. ``whiten: tokens`` is usual (TRL and verl always do so).

    References:
        Schulman et al., `GAE <https://arxiv.org/abs/1506.02438>`_, 2016, eq. 16.
        Schulman et al., `PPO <https://arxiv.org/abs/1707.06347>`_, 2017.
        Ouyang et al., `InstructGPT <https://arxiv.org/abs/2203.02155>`_, 2022: a KL penalty of each token.
    """

    type: Literal["gae"] = "gae"
    gamma: float = param(1.0, "Discount of a token.", ge=0, le=1)
    lam: float = param(
        0.95, "Weight of later errors (lambda): 0 trusts the critic alone, 1 the rewards alone.", ge=0, le=1
    )
    beta: float = param(0.0, "Coefficient of the KL penalty in the reward of each token; 0 disables it.", ge=0)
    kl: Literal["k1", "k2", "k3", "abs"] = param("k1", "Estimator of the KL divergence.")


@component(
    "advantage",
    requires=("value_R", "group_R", "failed_R", "trained_RT", "old_logprob_RT", "old_collision_RT"),
    provides=("advantage_RT",),
    impl="recipec.runtime.objective.token_baseline:token_baseline",
)
class TokenBaseline(Advantage):
    r"""Credit of each token against the mean of its group, in which rows weigh more that had uncertain tokens so far.

    .. math:: A_t = w\,(v - b_t),\quad b_t = \frac{\sum_g v W_t}{\sum_g W_t},\quad
        W_t = \sum_{j \le t} \left(1 - 2 \pi_j + \sum_a \pi(a)^2\right)

    The weight of a token is the squared gradient of its log-probability by the logits: this baseline has the least
    variance of the gradient. Rows of a group are compared at the same number of trained tokens. A group of equal
    values gets exactly 0.

    The pass before the updates computes the sums of squared probabilities with the log-probabilities, and is not left
    out where a step has one update.

    References:
        verl, ``adv_estimator=optimal_token_baseline``, without weights of engines; of several turns,
        ``tir_optimal_token_baseline``, with ``singleton: raw``.
    """

    type: Literal["token_baseline"] = "token_baseline"
    group: SignalRef = param("by_prompt_R", "Signal that assigns rows to groups.")
    singleton: Literal["zero", "raw"] = param(
        "zero", "Credit of tokens at which one row of the group is left: 0, or the value of the row."
    )

    @property
    def alone(self) -> Literal["value", "zero"]:
        """Zero or the value of the row, as ``singleton`` says."""
        return "value" if self.singleton == "raw" else "zero"


@component(
    "advantage",
    requires=("teacher", "old_logprob_RT", "ref_logprob_RT", "trained_RT"),
    provides=("advantage_RT",),
    impl="recipec.runtime.objective.distillation:reverse_kl",
)
class ReverseKl(Advantage):
    r"""Credit of each token by how much likelier a teacher finds it than the policy does (on-policy distillation).

    .. math:: A_t = w \, (\log\pi_T(t) - \log\pi_{old}(t))

    Its mean over samples of the policy is minus the divergence :math:`\operatorname{KL}(\pi \,\|\, \pi_T)` of the next
    token. The teacher is the model of ``reference: {type: frozen, from: …}``, with the policy's tokenizer. Next to a
    level of the reward it adds distillation to the reward; as the only level it needs no reward. The loss `gkd`
    compares whole distributions in place of the token that was sampled.

    References:
        Lu et al., `On-Policy Distillation <https://thinkingmachines.ai/blog/on-policy-distillation/>`_, 2025.
        Agarwal et al., `GKD <https://arxiv.org/abs/2306.13649>`_, 2023.
    """

    type: Literal["reverse_kl"] = "reverse_kl"
    value: Literal[""] = param("", "Always empty: no reward is compared.")
    clamp: float | None = param(
        None, "Highest absolute difference of the log-probabilities; not bounded if omitted.", unit="nats", gt=0
    )

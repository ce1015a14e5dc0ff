"""Rewards from elsewhere: the user's own functions, the reference, the environment, a knowledge graph."""

from typing import ClassVar, Literal

from recipec.component import param
from recipec.spec.reward.definition import TEXT, Reward, level


@level(requires=(*TEXT, "tokens_RT", "trained_RT"), impl="recipec.runtime.reward.function:Function")
class Function(Reward):
    """Call a user-defined reward function from a file listed under `use`.

    None says that the function does not apply to a row: it adds nothing. A row that no level scores has no reward; it
    is left out of baselines and of the loss, and counted in the metric `failed_rows`.
    ``f(prompts, completions, **columns)`` as in TRL, or
    ``compute_score(data_source, solution_str, ground_truth, extra_info)`` as in verl.

    References:
        TRL, `Using a custom reward function <https://huggingface.co/docs/trl/grpo_trainer>`_.
    """

    user_code: ClassVar[Literal["", "function", "class", "tool"]] = "function"
    abstains: ClassVar[bool] = True

    type: Literal["function"] = "function"
    name: str = param(..., "Name of the function.")
    timeout: float = param(
        3600.0, "Time limit of a call, for all rows of a batch (TRL) or for one (verl).", unit="seconds", gt=0
    )

    def user_names(self) -> tuple[str, ...]:
        """Return the name of the function."""
        return (self.name,)


@level(requires=("trained_RT", "old_logprob_RT", "ref_logprob_RT"), impl="recipec.runtime.reward.rule_based:kl_penalty")
class KlPenalty(Reward):
    r"""KL penalty to the reference, as part of the reward.

    .. math:: r = -\beta \sum_t k(\log\pi_{old}(t), \log\pi_{ref}(t))

    References:
        Ouyang et al., `InstructGPT <https://arxiv.org/abs/2203.02155>`_, 2022.
    """

    type: Literal["kl_penalty"] = "kl_penalty"
    beta: float = param(0.001, "Coefficient of the KL penalty.", unit="reward units per nat", gt=0)
    kl: Literal["k1", "k2", "k3", "abs"] = param("k1", "Estimator of the KL divergence.")


@level(
    requires=("env_reward_R", "rewards"),
    provides=("reward_R", "score_R", "return_R"),
    impl="recipec.runtime.reward.rule_based:environment",
    lowered=("gamma", "invalid_action_penalty"),
)
class Environment(Reward):
    r"""The reward of the environment, with the total score of each episode and the return of each step.

    .. math:: R_t = r_t + \gamma R_{t+1}, \quad S = \sum_t r_t

    Both are computed from the total reward of a row, including the other rewards; copies of a step add nothing.
    The penalty is subtracted from the score and the return of its own row after the returns are summed, so it affects
    neither earlier steps nor `reward_R` and the advantage levels that compare it.

    References:
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025, eq. 5.
    """

    type: Literal["environment"] = "environment"
    gamma: float = param(1.0, "Discount factor of later rewards.", ge=0, le=1)
    invalid_action_penalty: float = param(0.0, "Penalty of a row with an invalid action.", unit="reward units", ge=0)


@level(requires=(*TEXT, "knowledge"), impl="recipec.runtime.knowledge.consistency:KgConsistency", uses=("knowledge",))
class KgConsistency(Reward):
    r"""Reward claims that a knowledge graph supports, and penalise claims that it contradicts.

    .. math:: r = \sum_{claims} v \text{ or their mean, within } \pm cap,\quad
        v \in \{v_{supported}, v_{contradicted}, v_{unknown}\}

    A repeated claim counts once. An answer without claims gets `silent`.

    References:
        Tian et al., `Fine-tuning Language Models for Factuality <https://arxiv.org/abs/2311.08401>`_, 2023: the share
        of an answer's claims that a source supports.
        Min et al., `FActScore <https://arxiv.org/abs/2305.14251>`_, 2023.
    """

    type: Literal["kg_consistency"] = "kg_consistency"
    supported: float = param(1.0, "Reward of a claim that the knowledge graph supports.", unit="reward units")
    contradicted: float = param(-1.0, "Reward of a claim that the knowledge graph contradicts.", unit="reward units")
    unknown: float = param(0.0, "Reward of a claim that it neither supports nor contradicts.", unit="reward units")
    silent: float = param(0.0, "Reward of an answer without claims.", unit="reward units")
    average: Literal["sum", "mean"] = param("mean", "Sum or mean over the claims of an answer.")
    cap: float | None = param(None, "Bound of the absolute reward.", unit="reward units", gt=0)
    topic: str | None = param(None, "Column with the topic; if omitted, the question's text is searched for entities.")
    top_k: int = param(1, "Number of entities that the question is assumed to be about.", unit="entities", ge=1)

    def bounds(self) -> tuple[float, float] | None:
        """Return the bounds of a claim and of an answer without claims; a sum is bounded by `cap` only."""
        values = [self.supported, self.contradicted, self.unknown]
        if self.cap is not None:
            values = [-self.cap, self.cap] if self.average == "sum" else [self._capped(value) for value in values]
        elif self.average == "sum":
            return None
        return min(*values, self.silent), max(*values, self.silent)

    def _capped(self, value: float) -> float:
        return value if self.cap is None else max(-self.cap, min(self.cap, value))

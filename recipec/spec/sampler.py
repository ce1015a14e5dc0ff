"""How rows are sampled: chains or trees."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

from recipec.component import Component, Section, component, param, when

_ROWS = (
    "tokens_RT", "attend_RT", "trained_RT", "turn_RT", "text_R", "transcript_R", "sampler_logprob_RT",
    "prompt_id_R", "episode_id_R", "step_R", "env_reward_R", "action_valid_R", "error_R",
    "error_text_R", "by_prompt_R",
)  # fmt: skip
_STEPS = (when("rows", "step", "state_R"), when("rows", "step", "by_episode_R"))


class GroupFilter(Section):
    """Sample again in place of groups whose episodes all earned the same.

    As many further prompts are sampled as groups were dropped, until a step has its prompts; failed episodes do not
    count. Steps are of full size, also at the end of an epoch.

    References:
        Yu et al., `DAPO <https://arxiv.org/abs/2503.14476>`_, 2025: dynamic sampling.
    """

    max_tries: int = param(10, "Samplings of one step at most; the last one keeps every group.", ge=1)


class Sampler(Component):
    """Base class of samplers."""

    slot: ClassVar[str] = "sampler"

    temperature: float = param(
        1.0, "Divides the logits, here and in every log-probability of the stage; 0 is greedy.", ge=0, le=100
    )
    top_p: float = param(1.0, "Draw from the smallest set of tokens with this probability.", gt=0, le=1)
    top_k: int = param(0, "Draw from this many likeliest tokens; 0 is all.", unit="tokens", ge=0)
    min_p: float = param(0.0, "Draw from tokens at least this likely, relative to the likeliest.", ge=0, le=1)
    stop: tuple[str, ...] = param((), "A turn ends with the token that completes one of these texts.")
    rows: Literal["trajectory", "step"] = param("trajectory", "What one training example is.")
    max_turn_length: int | None = param(
        None, "Longest turn of an episode; `max_completion_length` if absent.", unit="tokens", ge=1
    )
    max_context_length: int | None = param(
        None,
        "Longest prompt with all that follows it; an episode that would pass it ends. The model's positions if absent.",
        unit="tokens",
        ge=1,
    )
    group_filter: GroupFilter | None = param(None, "Sample again in place of groups that carry no signal.")

    @abstractmethod
    def rows_per_prompt(self) -> int:
        """Return how many trajectories of a prompt are trained on.

        >>> Chain(num_generations=4).rows_per_prompt(), Tree(trees=2, expansions=3, rounds=2, keep=5).rows_per_prompt()
        (4, 10)
        """

    def branches(self) -> tuple[int, int]:
        """Return how many episodes of a prompt start at the prompt, and how many later branch off each of these.

        >>> Chain(num_generations=4).branches(), Tree(trees=2, expansions=3, rounds=2).branches()
        ((4, 0), (2, 6))
        """
        return self.rows_per_prompt(), 0

    def group_size(self, signal: str) -> int | None:
        """Return how many rows share a value of a grouping signal; ``None`` where only a run can tell.

        >>> Chain(num_generations=4).group_size("by_prompt_R"), Tree().group_size("by_tree_R")
        (4, 3)
        """
        if self.rows != "trajectory":
            return None
        return {"episode_id_R": 1, **dict.fromkeys(("by_prompt_R", "prompt_id_R"), self.rows_per_prompt())}.get(signal)

    def longest_completion(self) -> int | None:
        """Return the most tokens of a completion, where no environment answers; ``None`` where nothing bounds it."""
        return None

    def longest_turn(self) -> int | None:
        """Return the most tokens of one turn of an episode; ``None`` where nothing bounds it."""
        return self.max_turn_length or self.longest_completion()


@component(
    "sampler",
    requires=("prompt_P",),
    provides=(*_ROWS, *_STEPS, "sampling"),
    impl="recipec.runtime.rollout.chain:ChainSampler",
    state=True,
    uses=("policy", "rollout_engine", "environment"),
    draws=True,
)
class Chain(Sampler):
    """Sample independent completions of each prompt, or independent episodes where there is an environment.

    References:
        Shao et al., `DeepSeekMath <https://arxiv.org/abs/2402.03300>`_, 2024.
    """

    type: Literal["chain"] = "chain"
    num_generations: int = param(8, "Completions of each prompt: the group.", unit="rows", ge=1)
    max_completion_length: int = param(
        256, "Longest completion; with an environment, longest turn.", unit="tokens", ge=1
    )
    min_completion_length: int = param(0, "No end-of-sequence token before this length.", unit="tokens", ge=0)

    def rows_per_prompt(self) -> int:
        """Return every completion."""
        return self.num_generations

    def longest_completion(self) -> int:
        """Return the bound of completions."""
        return self.max_completion_length


@component(
    "sampler",
    requires=("prompt_P", "branchable"),
    provides=(*_ROWS, "by_tree_R", *_STEPS),
    impl="recipec.runtime.rollout.tree:TreeSampler",
    state=True,
    uses=("policy", "rollout_engine", "environment"),
    draws=True,
)
class Tree(Sampler):
    """Sample search trees: chains that branch off earlier turns.

    Each prompt gets M trees of one chain; in each of L rounds, N nodes of a tree are drawn and a chain is grown from
    each, so that a tree has 1 + N L leaves; K of them, drawn uniformly without replacement, become rows.
    A node is a turn with the environment's answer, or the root; where an episode ended none is grown.

    How the nodes of a round are drawn:

    - ``random``: uniformly and with replacement, the root included, as published with Tree-GRPO.
    - ``entropy``: those where the policy was least sure. A turn's entropy is estimated by the mean of -log p over its
      tokens, and less counts for a node with more branches, both after AT2PO (whose paper takes the highest, too).
      Ours: a node is as unsure as the turns taken from it, since a new chain draws those anew; 0.05 nats a branch.
    - ``value_gap``: those whose best and worst turn differ most in the mean of the environment's rewards below them.
      Ours; the reason is that of group filtering: what earns the same everywhere gives no gradient.

    Where there are fewer nodes than N, the first of the last two policies' orders are taken again; ties are drawn.

    References:
        Ji et al., `Tree Search for LLM Agent Reinforcement Learning <https://arxiv.org/abs/2509.21240>`_, 2025.
        Zong et al., `AT2PO <https://arxiv.org/abs/2601.04767>`_, 2026: expansion guided by entropy.
        Hou et al., `TreeRL <https://arxiv.org/abs/2506.11902>`_, 2025: branching where uncertainty is high.
        Yu et al., `DAPO <https://arxiv.org/abs/2503.14476>`_, 2025: groups of equal rewards give no gradient.
    """

    type: Literal["tree"] = "tree"
    trees: int = param(2, "Trees of each prompt (M).", unit="trees", ge=1, le=1024)
    expansions: int = param(2, "Chains added to a tree in a round (N).", unit="chains", ge=0, le=1024)
    rounds: int = param(1, "Rounds of expansion (L).", unit="rounds", ge=0, le=1024)
    keep: int | None = param(None, "Leaves kept of a tree (K); all if absent.", unit="rows", ge=1)
    expansion: Literal["random", "entropy", "value_gap"] = param(
        "random",
        "Which nodes are expanded: drawn uniformly (published), or by how unsure the policy was, or by reward.",
    )
    max_turn_length: int = param(500, "Longest turn.", unit="tokens", ge=1)

    @property
    def leaves(self) -> int:
        """Leaves of one tree, before ``keep``."""
        return 1 + self.expansions * self.rounds

    def rows_per_prompt(self) -> int:
        """Return the leaves that are kept, of all trees."""
        return self.trees * min(self.keep or self.leaves, self.leaves)

    def branches(self) -> tuple[int, int]:
        """Return the trees, and the expansions of each."""
        return self.trees, self.leaves - 1

    def group_size(self, signal: str) -> int | None:
        """Return the leaves of a tree, or of a prompt's trees."""
        if signal == "by_tree_R" and self.rows == "trajectory":
            return self.rows_per_prompt() // self.trees
        return super().group_size(signal)

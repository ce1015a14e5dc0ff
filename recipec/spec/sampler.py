"""Samplers: how rollouts are generated."""

from abc import abstractmethod
from typing import ClassVar, Literal

from recipec.component import Component, Section, component, param, when

_ROWS = (
    "tokens_RT", "attend_RT", "trained_RT", "turn_RT", "text_R", "transcript_R", "sampler_logprob_RT",
    "prompt_id_R", "episode_id_R", "step_R", "env_reward_R", "action_valid_R", "error_R",
    "error_text_R", "by_prompt_R", "truncated_R",
)  # fmt: skip
_STEPS = (when("rows", "step", "state_R"), when("rows", "step", "by_episode_R"))
_GREEDY = (when("greedy_first", "greedy_R"),)
_AHEAD = (when("max_staleness", "policy_version_R"),)


class GroupFilter(Section):
    """Drop groups in which all episodes have the same reward, and sample others in their place (dynamic sampling).

    Each dropped group is replaced by sampling another prompt, until the step has all its prompts; failed episodes do
    not count. Steps always have the full size, also at the end of an epoch. With ``action: drop`` nothing is sampled
    again: the rows stay in the baselines of the batch, but are in neither the loss nor its denominators.

    References:
        Yu et al., `DAPO <https://arxiv.org/abs/2503.14476>`_, 2025: dynamic sampling.
        Khatri et al., `ScaleRL <https://arxiv.org/abs/2510.13786>`_, 2025: zero-variance filtering (``drop``).
    """

    action: Literal["resample", "drop"] = param(
        "resample", "Sample other prompts in place of dropped groups, or leave their rows out of the loss."
    )
    level: str | None = param(None, "Reward level that decides; the total reward if omitted.")
    between: tuple[float, float] | None = param(
        None,
        "Keep groups with a mean strictly between these two values; if omitted, those with two different values.",
        unit="reward units",
    )
    max_tries: int = param(10, "Maximum number of sampling rounds of a step; the last one keeps every group.", ge=1)


class Interrupt(Section):
    """End thinking that is too long by a text, after which the policy goes on (forced interruption).

    The text counts for `max_completion_length`. Its tokens are seen and not trained, like those of an environment.

    References:
        Khatri et al., `ScaleRL <https://arxiv.org/abs/2510.13786>`_, 2025; Qwen, `Qwen3
        <https://arxiv.org/abs/2505.09388>`_, 2025: thinking budgets.
    """

    after: int = param(..., "Number of tokens after which the text is put.", unit="tokens", ge=1)
    text: str = param(..., "Text that ends the thinking, such as `Time is up. </think>`.", min_length=1)
    marker: str | None = param(
        None, "Text that shows that thinking is over, so that nothing is put; `text` if omitted.", min_length=1
    )


class Retire(Section):
    """Leave prompts that the policy solves out of later epochs (no positive resampling).

    Each time a prompt is sampled its pass rate is the share of its episodes with enough reward; failed ones are not
    counted. An epoch keeps one step of prompts at least. What is retired is in checkpoints.

    References:
        Khatri et al., `ScaleRL <https://arxiv.org/abs/2510.13786>`_, 2025: prompts with a pass rate of 0.9 or more.
    """

    pass_rate: float = param(0.9, "Lowest pass rate of a prompt that is left out.", gt=0, le=1)
    correct_at: float = param(1.0, "Lowest reward of an episode that passes.", unit="reward units")
    level: str | None = param(None, "Reward level that decides; the total reward if omitted.")


class Sampler(Component):
    """Base class of samplers."""

    slot: ClassVar[str] = "sampler"

    temperature: float = param(
        1.0, "Sampling temperature, also of all log-probabilities of the stage; 0 is greedy decoding.", ge=0, le=100
    )
    top_p: float = param(
        1.0, "Nucleus sampling: sample from the smallest set of tokens with this total probability.", gt=0, le=1
    )
    top_k: int = param(0, "Sample from this many most likely tokens; 0 disables it.", unit="tokens", ge=0)
    min_p: float = param(0.0, "Sample from tokens at least this likely, relative to the most likely one.", ge=0, le=1)
    stop: tuple[str, ...] = param((), "Stop strings: a turn ends with the token that completes one of them.")
    rows: Literal["trajectory", "step"] = param(
        "trajectory", "Training sample (row): a whole episode, or one step of it."
    )
    max_turn_length: int | None = param(
        None, "Maximum length of a turn; `max_completion_length` if omitted.", unit="tokens", ge=1
    )
    max_context_length: int | None = param(
        None,
        "Maximum length of prompt and response; an episode that would exceed it ends. The model's maximum if omitted.",
        unit="tokens",
        ge=1,
    )
    group_filter: GroupFilter | None = param(
        None, "Dynamic sampling: replace or drop groups with equal rewards, which give no gradient."
    )
    retire: Retire | None = param(None, "Leave prompts that the policy solves out of later epochs.")
    truncated: Literal["keep", "drop"] = param(
        "keep",
        "Episodes that a length limit cut: train on them, or leave them out of the loss (overlong filtering of DAPO). "
        "Baselines include them.",
    )
    max_staleness: int = param(
        0,
        "Sample the rollouts of this many steps ahead, while the policy is trained: their weights are at most this "
        "many steps old. 0 samples each step from the weights that it updates.",
        unit="steps",
        ge=0,
        le=64,
    )

    def resamples(self) -> GroupFilter | None:
        """Return the filter that samples again, if there is one.

        >>> Chain(group_filter=GroupFilter(action="drop")).resamples() is None
        True
        """
        group_filter = self.group_filter
        return group_filter if isinstance(group_filter, GroupFilter) and group_filter.action == "resample" else None

    def drops(self) -> GroupFilter | None:
        """Return the filter that leaves groups out of the loss, if there is one."""
        group_filter = self.group_filter
        return group_filter if isinstance(group_filter, GroupFilter) and group_filter.action == "drop" else None

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

    def shortest_completion(self) -> int:
        """Return the least tokens of a completion."""
        return 0

    def longest_turn(self) -> int | None:
        """Return the most tokens of one turn of an episode; ``None`` where nothing bounds it."""
        return self.max_turn_length or self.longest_completion()


@component(
    "sampler",
    requires=("prompt_P",),
    provides=(*_ROWS, *_STEPS, *_GREEDY, *_AHEAD, "sampling"),
    impl="recipec.runtime.rollout.chain:ChainSampler",
    state=True,
    uses=("policy", "rollout_engine", "environment"),
    draws=True,
)
class Chain(Sampler):
    """Sample independent completions of each prompt, or independent episodes if there is an environment.

    References:
        Shao et al., `DeepSeekMath <https://arxiv.org/abs/2402.03300>`_, 2024.
        Li et al., `ReMax <https://arxiv.org/abs/2310.10505>`_, 2024: the greedy completion (``greedy_first``).
    """

    type: Literal["chain"] = "chain"
    num_generations: int = param(8, "Number of completions per prompt (group size).", unit="completions", ge=1)
    max_completion_length: int = param(
        256, "Maximum length of a completion; with an environment, of a turn.", unit="tokens", ge=1
    )
    min_completion_length: int = param(
        0, "Minimum length; no end-of-sequence token is sampled before it.", unit="tokens", ge=0
    )

    greedy_first: bool = param(
        False,
        "Decode the first completion of each prompt greedily. It is the baseline of the advantage `remax`, counts in "
        "`num_generations`, and is out of the loss.",
    )
    interrupt: Interrupt | None = param(None, "End thinking that is too long by a text, and go on.")

    def rows_per_prompt(self) -> int:
        """Return every completion."""
        return self.num_generations

    def longest_completion(self) -> int:
        """Return the bound of completions."""
        return self.max_completion_length

    def shortest_completion(self) -> int:
        """Return the minimum of completions."""
        return self.min_completion_length


@component(
    "sampler",
    requires=("prompt_P", "branchable"),
    provides=(*_ROWS, "by_tree_R", *_STEPS, *_AHEAD),
    impl="recipec.runtime.rollout.tree:TreeSampler",
    state=True,
    uses=("policy", "rollout_engine", "environment"),
    draws=True,
)
class Tree(Sampler):
    """Tree search: sample chains that branch off earlier turns.

    Each prompt starts M trees of one chain. In each of L rounds, N nodes of a tree are selected and a new chain is
    sampled from each, so that a tree has 1 + N L leaves; K of them, sampled uniformly without replacement, become rows.
    A node is a turn with the environment's response, or the root; no chain is sampled from the end of an episode.

    How the nodes of a round are selected:

    - ``random``: uniformly with replacement, including the root, as published with Tree-GRPO.
    - ``entropy``: nodes where the policy is least certain. The entropy of a turn is estimated by the mean of -log p
      over its tokens, minus a penalty for nodes with more branches, both after AT2PO (the paper also selects the
      highest). Our additions: the entropy of a node is that of the turns sampled from it, since a new chain samples
      those again; the penalty is 0.05 nats per branch.
    - ``value_gap``: nodes with the largest gap between best and worst turn in the mean environment reward below. Our
      own: as in group filtering, equal rewards give no gradient.

    If there are fewer nodes than N, ``entropy`` and ``value_gap`` start over with the first. Ties are broken at random.

    References:
        Ji et al., `Tree Search for LLM Agent Reinforcement Learning <https://arxiv.org/abs/2509.21240>`_, 2025.
        Zong et al., `AT2PO <https://arxiv.org/abs/2601.04767>`_, 2026: expansion guided by entropy.
        Hou et al., `TreeRL <https://arxiv.org/abs/2506.11902>`_, 2025: branching where uncertainty is high.
        Yu et al., `DAPO <https://arxiv.org/abs/2503.14476>`_, 2025: groups of equal rewards give no gradient.
    """

    type: Literal["tree"] = "tree"
    trees: int = param(2, "Number of trees per prompt (M).", unit="trees", ge=1, le=1024)
    expansions: int = param(2, "Number of chains added to a tree per round (N).", unit="chains", ge=0, le=1024)
    rounds: int = param(1, "Number of expansion rounds (L).", unit="rounds", ge=0, le=1024)
    keep: int | None = param(None, "Number of leaves kept per tree (K); all if omitted.", unit="rows", ge=1)
    expansion: Literal["random", "entropy", "value_gap"] = param(
        "random",
        "Selection of nodes to expand: uniformly (published), by entropy of the policy, or by difference in reward.",
    )
    max_turn_length: int = param(500, "Maximum length of a turn.", unit="tokens", ge=1)

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

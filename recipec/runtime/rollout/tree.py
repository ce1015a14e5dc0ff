"""Search trees: chains that branch off earlier turns of other chains, and what is kept of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from recipec.runtime.protocols import Environment, Part, Policy, RolloutEngine
from recipec.runtime.rng import rng_for
from recipec.runtime.rollout.episodes import Errors, Growth, Node, breadth_first, keys_of, roots, turn_sampling
from recipec.runtime.rollout.metrics import episodes, trees
from recipec.runtime.rollout.rows import rows_from, versions_of

if TYPE_CHECKING:
    from recipec.runtime.batch import Task
    from recipec.runtime.context import StageContext
    from recipec.runtime.rollout.engine import Key
    from recipec.spec.sampler import Tree as Spec

BRANCH = 0.05
"""Nats that a node's uncertainty counts less for each further branch it has."""

Draw = Callable[[int, int, Sequence[Node]], Sequence[Node]]
"""Number of the tree, round, candidates -> the nodes to go on from."""


class TreeSampler(Part):
    """Sample trees of every prompt; see :class:`recipec.spec.sampler.Tree`.

    Every draw has the key (seed, stage, step, task, tree, ...), so a tree is the same whatever else is in its batch.
    """

    def __init__(
        self,
        spec: Spec,
        context: StageContext,
        *,
        policy: Policy,
        rollout_engine: RolloutEngine,
        environment: Environment,
    ) -> None:
        """Sample from ``policy`` by ``rollout_engine``, in an environment that can be branched."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.engine = rollout_engine
        self.environment = environment
        self.tokens = 0  # of all rows, prompts among them, since the stage began
        self.episodes = 0
        self.errors = Errors()
        self.trees = 0

    def __call__(self, prompt_P: Sequence[Task], *, step: int = 0, attempt: int = 0) -> dict[str, Any]:
        """Return the rows of the prompts, tree by tree, and statistics under ``metric/``.

        Raises:
            RecipeError: RC785, too many episodes ended in an error that is not the policy's.
        """
        spec, context = self.spec, self.context
        tree_roots = roots(self.environment, prompt_P, spec.trees)
        prefix = (context.seed, context.stage, step)
        keys = [key for task in keys_of(prompt_P, spec.trees, prefix, attempt) for key in task]
        growth = Growth(
            self.policy, self.environment, self.engine, turn_sampling(spec), spec.max_context_length, forks=True
        )
        grow(growth, tree_roots, keys, spec.rounds, lambda tree, number, nodes: self._draw(keys[tree], number, nodes))
        growth.clear_cache()
        grown = [leaf for root in tree_roots for leaf in leaves(root)]
        kept = [self._keep(root, key) for root, key in zip(tree_roots, keys, strict=True)]
        episode_leaves = [leaf for inside in kept for leaf in inside]
        by_prompt = [i // spec.trees for i, inside in enumerate(kept) for _ in inside]
        of_episode = torch.tensor([i for i, inside in enumerate(kept) for _ in inside], dtype=torch.int64)
        signals = rows_from(prompt_P, episode_leaves, by_prompt, spec.rows, self.episodes)
        self.errors.refuse(grown, attempt)  # what breaks rows of whole trajectories was found just now
        signals["by_tree_R"] = of_episode[signals["episode_id_R"] - self.episodes] + self.trees
        self.episodes += len(episode_leaves)
        self.trees += len(tree_roots)
        self.tokens += int(signals["attend_RT"].sum())
        if spec.max_staleness:
            signals |= versions_of(signals, self.engine)
        counted = episodes(episode_leaves, spec.rows, grown) | trees(tree_roots)
        return {**signals, **counted, "metric/num_tokens": self.tokens}

    def state(self) -> dict[str, Any]:
        """Return the counters."""
        return {"tokens": self.tokens, "episodes": self.episodes, "trees": self.trees}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue counting."""
        self.tokens, self.episodes, self.trees = (int(state[name]) for name in ("tokens", "episodes", "trees"))

    def _draw(self, key: Key, number: int, nodes: Sequence[Node]) -> list[Node]:
        """Draw the nodes of one round: uniformly with replacement, or the highest first."""
        chance = rng_for(*key, "nodes", number)
        if self.spec.expansion == "random":
            return [nodes[i] for i in chance.integers(len(nodes), size=self.spec.expansions)]
        score = uncertainty if self.spec.expansion == "entropy" else value_gap
        # an order by chance first, so that equals are drawn by chance
        ranked = sorted((nodes[i] for i in chance.permutation(len(nodes))), key=score, reverse=True)
        return [ranked[i % len(ranked)] for i in range(self.spec.expansions)]

    def _keep(self, root: Node, key: Key) -> list[Node]:
        """Choose the leaves that become rows."""
        all_leaves = leaves(root)
        if self.spec.keep is None or self.spec.keep >= len(all_leaves):
            return all_leaves
        chosen = rng_for(*key, "leaves").permutation(len(all_leaves))[: self.spec.keep]
        return keep(root, [all_leaves[i] for i in chosen])


def grow(growth: Growth, roots: Sequence[Node], keys: Sequence[Key], rounds: int, draw: Draw) -> None:
    """Grow one chain from each root, then, round by round, one from each drawn node, all trees in one batch.

    Every draw of a round is made before any growth of it.
    """
    growth.grow(roots, [(*key, 0, 0) for key in keys])
    for number in range(1, rounds + 1):
        starts: list[Node] = []
        chains: list[Key] = []
        for tree, root in enumerate(roots):
            drawn = draw(tree, number, candidates(root))
            starts += drawn
            chains += [(*keys[tree], number, i) for i in range(len(drawn))]
        if starts:
            growth.grow(starts, chains)


def candidates(root: Node) -> list[Node]:
    """Return the nodes that a chain can be grown from: the root, and every node where the episode goes on."""
    return [node for node in breadth_first(root) if not node.leaf]


def leaves(root: Node) -> list[Node]:
    """Return the ends of a tree's chains, breadth first."""
    return [node for node in breadth_first(root) if node.leaf]


def keep(root: Node, chosen: Collection[Node]) -> list[Node]:
    """Return the chosen leaves in the order of the tree that is left once branches without them are pruned.

    Pruning takes whole branches, so what is left keeps its order.
    """
    return [leaf for leaf in leaves(root) if leaf in chosen]


def uncertainty(node: Node) -> float:
    """Estimate how unsure the policy was at a node, in nats a token.

    The entropy of a turn is estimated by the mean of ``-log p`` over its tokens; a node has the mean over the turns
    taken from it, less ``BRANCH`` for each of them but one, so that a node does not win every round.
    """
    turns = [-math.fsum(child.logprob) / len(child.logprob) for child in node.children if child.logprob]
    return math.fsum(turns) / len(turns) - BRANCH * (len(turns) - 1) if turns else -math.inf


def value_gap(node: Node) -> float:
    """Return by how much the best and the worst turn taken from a node differ in value; 0 where there is one.

    The value of a turn is the mean over the leaves below it of their episodes' own rewards; errors count nowhere.
    """
    values = [value for child in node.children if not math.isnan(value := mean_reward(child))]
    return max(values) - min(values) if values else 0.0


def mean_reward(node: Node) -> float:
    """Average the environment's total reward over the episodes that end below a node; NaN where all are errors."""
    ends = [leaf for leaf in breadth_first(node) if leaf.leaf and leaf.position.error is None]
    totals = [math.fsum(turn.position.reward for turn in leaf.path()) for leaf in ends]
    return math.fsum(totals) / len(totals) if totals else math.nan

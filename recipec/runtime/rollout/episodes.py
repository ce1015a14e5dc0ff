"""Episodes as chains of nodes: every node is one turn and the answer to it; the root is the prompt.

Chains and trees grow by the same function; a tree is what several chains from the same nodes make.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from recipec.diagnostics.errors import rollout as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.data.text import decode_with_tags, tags_of
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.model.positions import longest_row
from recipec.runtime.protocols import Environment, Policy, RolloutEngine
from recipec.runtime.rollout.engine import Completion, Key, Request, SamplingParams

if TYPE_CHECKING:
    from recipec.runtime.batch import Task
    from recipec.spec.sampler import Sampler

_ERRORS = 0.2  # of the episodes: with more in error something is wrong with the environment itself


@dataclass(slots=True, eq=False)
class Node:
    """One turn of the policy with the answer to it, or the root of a tree: the prompt.

    Example: ``Node(None, position)``: a root; ``Node(root, answered, ids, logprob, text)``: a turn taken from it.
    """

    parent: Node | None
    position: EpisodeState
    """Where the episode stands after the turn."""
    ids: tuple[int, ...] = ()
    """What the policy wrote, as sampled, up to what the environment kept."""
    logprob: tuple[float, ...] = ()
    text: str = ""
    children: list[Node] = field(default_factory=list)
    """In order of their making."""
    kv: Any = None
    """KV cache of the context before the next turn, kept by the engine."""

    @property
    def depth(self) -> int:
        """Turns from the root."""
        return len(self.path())

    @property
    def leaf(self) -> bool:
        """Whether the episode ended here."""
        return self.parent is not None and self.position.ended

    def path(self) -> list[Node]:
        """Return the turns from the root, which is left out, to this node."""
        nodes: list[Node] = []
        node: Node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


@dataclass(slots=True, eq=False)
class _Chain:
    """A chain that grows: its newest node, and the KV cache that it may replace."""

    tip: Node
    key: Key
    appends: bool = True
    """Each context began with the one before and the turn."""
    kv: Any = None
    """Of the last turn; it covers the contexts of ``holders`` too."""
    holders: list[Node] = field(default_factory=list)

    def grown(self, node: Node, kv: Any, *, forks: bool) -> None:
        """Go on to the node below the tip; keep its KV cache in place of that of the chain before."""
        before, after = (*self.tip.position.context_ids, *node.ids), node.position.context_ids
        self.appends = self.appends and (node.position.ended or after[: len(before)] == before)
        self.tip = node
        if self.appends and (forks or not node.position.ended):
            if kv is None:
                node.kv = self.kv
            else:
                self._hold(kv)
                node.kv = kv
            self.holders.append(node)
        else:
            if kv is not None:
                kv.drop()
            self._hold(None)

    def _hold(self, kv: Any) -> None:
        if self.kv is not None:
            self.kv.drop()
        for node in self.holders:
            node.kv = kv
        self.kv = kv


class Growth:
    """Takes turns until every chain has ended, all chains in one batch; one Growth lasts for one batch of episodes.

    A turn is at most ``sampling.max_length`` long and ends with a stop text of the sampling or of the environment.
    An episode with a next context that leaves no room within ``max_context_length`` or the model's positions ends as
    truncated; one that has no room from the start, or no prompt, ends in error.

    Where each context continues the one before, the engine keeps its KV cache and computes only new tokens.  With
    ``forks`` it keeps those of finished chains as well, so that others may branch off them.

    Example: ``Growth(policy, environment, engine, SamplingParams(64)).grow(roots(environment, tasks, 2), keys)``.
    """

    def __init__(
        self,
        policy: Policy,
        environment: Environment,
        engine: RolloutEngine,
        sampling: SamplingParams,
        max_context_length: int | None = None,
        *,
        forks: bool = False,
    ) -> None:
        """KV caches of earlier batches are dropped."""
        self.environment = environment
        self.tokenizer = policy.tokenizer
        self.engine = engine
        self.sampling = replace(sampling, stop=tuple(dict.fromkeys((*sampling.stop, *self.environment.stops))))
        limits = (max_context_length, longest_row(policy.model.config))
        self.context = min((limit for limit in limits if limit is not None), default=None)
        self.forks = forks
        self.clear_cache()

    def clear_cache(self) -> None:
        """Drop the KV caches of the episodes: call it when no chain is to be grown any more."""
        self.engine.clear_cache()

    def grow(self, starts: Sequence[Node], keys: Sequence[Key]) -> list[Node]:
        """Add one chain below each start, all in one batch, and return their leaves in order.

        The turn at depth ``d`` (the first is 1) of chain ``i`` draws from ``(*keys[i], d)``.  A start that has
        ended already, as an episode that could not begin, gets one empty turn: its leaf.
        """
        chains = [_Chain(self._opened(start), key) for start, key in zip(starts, keys, strict=True)]
        for chain in chains:
            if chain.tip.kv is None:
                chain.holders.append(chain.tip)
        while alive := [chain for chain in chains if not chain.tip.leaf]:
            completions = self._write(alive)
            nodes = self._answer([chain.tip for chain in alive], completions)
            for chain, node, completion in zip(alive, nodes, completions, strict=True):
                chain.grown(node, completion.kv, forks=self.forks)
        return [chain.tip for chain in chains]

    def _opened(self, start: Node) -> Node:
        """Return the start itself, or the leaf below one from which no turn can be taken."""
        position, tokens = start.position, len(start.position.context_ids)
        if not position.ended and not tokens:
            position = replace(position, ended=True, error="its prompt has no tokens")
        elif not position.ended and not self._fits(position):
            problem = f"its prompt has {tokens} tokens, and {self.context} fit with what is written"
            position = replace(position, ended=True, truncated=True, error=problem)
        return _below(start, Node(start, position)) if position.ended else start

    def _fits(self, position: EpisodeState) -> bool:
        return self.context is None or len(position.context_ids) < self.context

    def _write(self, chains: Sequence[_Chain]) -> list[Completion]:
        """Let the policy write a turn from each tip; a context that several share is read once."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, chain in enumerate(chains):
            groups.setdefault(chain.tip.position.context_ids, []).append(i)
        requests = [self._request(ids, [chains[i] for i in members]) for ids, members in groups.items()]
        written: dict[int, Completion] = {}
        for members, completions in zip(groups.values(), self.engine.generate(requests, self.sampling), strict=True):
            written |= dict(zip(members, completions, strict=True))
        return [written[i] for i in range(len(chains))]

    def _request(self, ids: tuple[int, ...], chains: Sequence[_Chain]) -> Request:
        return Request(
            ids,
            tuple((*chain.key, chain.tip.depth + 1) for chain in chains),
            chains[0].tip.position.task.id,
            max_length=None if self.context is None else self.context - len(ids),
            kv=next((chain.tip.kv for chain in chains if chain.tip.kv is not None), None),
            keep_kv=any(chain.appends for chain in chains),
        )

    def _answer(self, nodes: Sequence[Node], completions: Sequence[Completion]) -> list[Node]:
        """Let the environment answer the turns, and hang them below the nodes they were taken from."""
        texts = decode(self.tokenizer, [c.ids for c in completions])
        turns = [Turn(c.ids, text, c.ended) for c, text in zip(completions, texts, strict=True)]
        positions = self.environment.step([node.position for node in nodes], turns)
        kept = [c.ids[: position.kept] for c, position in zip(completions, positions, strict=True)]
        cut = [i for i, c in enumerate(completions) if len(kept[i]) < len(c.ids)]
        for i, text in zip(cut, decode(self.tokenizer, [kept[i] for i in cut]), strict=True):
            texts[i] = text
        below = []
        for i, (node, position) in enumerate(zip(nodes, positions, strict=True)):
            if not position.ended and not self._fits(position):
                position = replace(position, ended=True, truncated=True)  # noqa: PLW2901
            logprob = completions[i].logprob[: len(kept[i])]
            below.append(_below(node, Node(node, position, kept[i], logprob, texts[i])))
        return below


def breadth_first(root: Node) -> list[Node]:
    """Return every node of a tree, the root first, then level by level, children in order of their making."""
    nodes = [root]
    for node in nodes:
        nodes += node.children
    return nodes


def _below(parent: Node, child: Node) -> Node:
    parent.children.append(child)
    return child


def decode(tokenizer: Any, ids: Sequence[tuple[int, ...]]) -> list[str]:
    """Decode what was written, special tokens left out but for tags such as `<think>`."""
    tags = tags_of(tokenizer) if ids else {}
    if tags:
        return [decode_with_tags(tokenizer, row, tags) for row in ids]
    if not ids:  # the tokenizer would answer with one empty text
        return []
    texts: list[str] = tokenizer.batch_decode(
        [list(row) for row in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return texts


def roots(environment: Environment, tasks: Sequence[Task], samples: int) -> list[Node]:
    """Begin ``samples`` episodes of each task, task by task; each is begun, for a world may not be replayable."""
    return [Node(None, position) for position in environment.start([t for t in tasks for _ in range(samples)])]


def turn_sampling(spec: Sampler) -> SamplingParams:
    """Read from a sampler's spec how turns are drawn.

    >>> from recipec.spec.sampler import Chain
    >>> turn_sampling(Chain(max_completion_length=64, top_k=5)).max_length
    64
    """
    length = spec.longest_turn()
    assert length is not None, spec
    return SamplingParams(
        max_length=length,
        temperature=spec.temperature,
        top_p=spec.top_p,
        top_k=spec.top_k,
        min_p=spec.min_p,
        min_length=spec.shortest_completion(),
        stop=spec.stop,
    )


def keys_of(tasks: Sequence[Task], samples: int, key: Key, attempt: int = 0) -> list[tuple[Key, ...]]:
    """Make the keys of each task's samples: ``(*key, task.id, sample)``, and the attempt where it is above 0.

    A task that occurs again continues the count, so that no two rows draw the same numbers.
    """
    seen: dict[int, int] = {}
    tail = (attempt,) if attempt else ()
    keys = []
    for task in tasks:
        first = seen.get(task.id, 0)
        seen[task.id] = first + samples
        keys.append(tuple((*key, task.id, i, *tail) for i in range(first, first + samples)))
    return keys


class Errors:
    """Counts the episodes of a step that failed for reasons that are not the policy's, over all of its tries.

    Where groups are sampled again a try may be of one prompt: alone it says nothing about the environment.

    Example: ``Errors().refuse(leaves, attempt=0)``.
    """

    def __init__(self) -> None:
        self.episodes = 0
        self.found: list[str] = []

    def refuse(self, leaves: Iterable[Node], attempt: int) -> None:
        """Count a try, the first of a step where ``attempt`` is 0; stop where more than a fifth of all failed.

        Raises:
            RecipeError: RC785, with the first problems.
        """
        if attempt == 0:
            self.episodes, self.found = 0, []
        problems = [leaf.position.error for leaf in leaves]
        self.episodes += len(problems)
        self.found += [error for error in problems if error is not None]
        if len(self.found) > _ERRORS * self.episodes:
            texts = list(dict.fromkeys(self.found))
            raise RecipeError(errors.episodes_in_error(len(self.found), self.episodes, texts))

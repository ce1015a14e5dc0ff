r"""Which tokens the rows of a prompt have in common, from the recipe alone: what is expected of trees, turns and pairs.

A segment is a run of tokens that the same rows share.  With :math:`n` tokens of which each of :math:`c` rows has a
copy, rows have :math:`\sum n c` tokens, and :math:`\sum n` of them are unique.  In a tree, the chain of M trees is
left by an expansion at a point drawn uniformly, so that of B expansions :math:`B (1 - s)` still share it at the share
:math:`s` of its length; a turn is taken at its middle, which makes an expansion cost half an episode.

References:
    Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025, for the count of a group.
    Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025, for the expected cost of an expansion.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipec.spec.sampler import Sampler

MOST_TURNS = 1_000
"""Turns of an episode that are laid out one by one; of more, neighbours are laid out as copies of their middle."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What goes through a model: tokens, (query, key) pairs of its attention, rows of logits."""

    tokens: float
    pairs: float
    logits: float

    def __add__(self, other: Counts) -> Counts:
        """Count both."""
        return Counts(self.tokens + other.tokens, self.pairs + other.pairs, self.logits + other.logits)

    def scaled(self, by: float) -> Counts:
        """Count it several times.

        >>> Counts(2, 3, 1).scaled(2)
        Counts(tokens=4, pairs=6, logits=2)
        """
        return Counts(self.tokens * by, self.pairs * by, self.logits * by)


@dataclass(frozen=True, slots=True)
class TokenRun:
    """Tokens of a prompt's rows, behind ``begin`` others, that ``rows`` rows have in common; there are ``times`` such.

    Example: ``TokenRun(512, 0, rows=8)`` is the prompt of a group of eight.
    """

    tokens: float
    begin: float
    rows: float = 1.0
    times: float = 1.0
    scored: float = 0.0
    """In how many of the rows the tokens are trained."""

    def once(self, minibatches: int = 1) -> Counts:
        """Count each token once; once in every minibatch that has one of its rows, where rows are dealt at random."""
        again = self.times * minibatches * (1 - (1 - 1 / minibatches) ** self.rows)
        return Counts(self.tokens, self._pairs, self.tokens * bool(self.scored)).scaled(again)

    def dense(self) -> Counts:
        """Count each row for itself."""
        rows = Counts(self.tokens, self._pairs, 0.0).scaled(self.rows)
        return (rows + Counts(0.0, 0.0, self.tokens * self.scored)).scaled(self.times)

    @property
    def _pairs(self) -> float:
        return self.tokens * (self.begin + (self.tokens + 1) / 2)


def total(counts: Iterable[Counts]) -> Counts:
    """Add counts.

    >>> total([Counts(1, 1, 0), Counts(2, 3, 1)])
    Counts(tokens=3.0, pairs=4.0, logits=1.0)
    """
    return sum(counts, Counts(0.0, 0.0, 0.0))


@dataclass(frozen=True, slots=True)
class Group:
    """The episodes of a prompt: ``trees`` chains, each left by ``added`` expansions; a share ``kept`` are rows.

    Example: ``Group(8)`` is a group of eight chains; ``Group(2, 2)`` has two trees of three leaves.
    """

    trees: float
    added: float = 0.0
    kept: float = 1.0

    @classmethod
    def of(cls, sampler: Sampler) -> Group:
        """Return the group that a sampler makes of a prompt."""
        trees, added = sampler.branches()
        return cls(trees, added, sampler.rows_per_prompt() / (trees * (1 + added)))

    @property
    def leaves(self) -> float:
        """Episodes that are rows."""
        return self.trees * (1 + self.added) * self.kept

    def nodes(self, turn: float, turns: int) -> tuple[tuple[float, float], ...]:
        """Return how many leaves share a turn's tokens, and how many such runs of tokens there are.

        >>> Group(2, 2).nodes(1, 2)
        ((2.5, 2.0), (1.0, 1.0))
        """
        at = (turn - 0.5) / turns if turns > 1 else 1.0
        runs = [(1 + self.added * (1 - at), self.trees)]
        if self.added:
            runs.append((1.0, self.trees * self.added * at))
        return tuple(self._thinned(rows, times) for rows, times in runs)

    def _thinned(self, rows: float, times: float) -> tuple[float, float]:
        """Leave out the leaves that are not kept."""
        there = 1 - (1 - self.kept) ** rows
        return self.kept * rows / there, times * there


@dataclass(frozen=True, slots=True)
class Episode:
    """Lengths of an episode: its prompt, ``turns`` turns of ``written`` tokens, answers of ``observed`` between them.

    Example: ``Episode(512, 1, 128, 0)`` is one completion.
    """

    prompt: float
    turns: int
    written: float
    observed: float = 0.0

    @property
    def length(self) -> float:
        """Tokens of the whole."""
        return self.before(self.turns) + self.written

    def before(self, turn: float) -> float:
        """Tokens before a turn, numbered from 1."""
        return self.prompt + (turn - 1) * (self.written + self.observed)


def _laid_out(turns: int) -> Iterator[tuple[float, int]]:
    """Yield the turns of an episode, each with how many it stands for.

    >>> list(_laid_out(3)), len(list(_laid_out(10**9))), sum(count for _, count in _laid_out(10**9))
    ([(1.0, 1), (2.0, 1), (3.0, 1)], 1000, 1000000000)
    """
    blocks = min(turns, MOST_TURNS)
    inner = max(1, blocks - 2)  # the first and the last turn are laid out otherwise than those between
    edges = [0, *(1 + (turns - 2) * number // inner for number in range(blocks - 1)), turns]
    for before, end in itertools.pairwise(edges):
        yield (before + 1 + end) / 2, end - before


def append_only(group: Group, episode: Episode, *, steps: bool) -> list[TokenRun]:
    """Lay out rows of successive turns: whole trajectories, or every turn with all that came before it.

    >>> flat = append_only(Group(8), Episode(512, 1, 64), steps=False)
    >>> total(s.dense() for s in flat).tokens, total(s.once() for s in flat).tokens
    (4608.0, 1024.0)
    """
    turns = episode.turns
    runs = [TokenRun(episode.prompt, 0, group.leaves * (turns if steps else 1))]
    for turn, count in _laid_out(turns):
        begin = episode.before(turn)
        for leaves, each in group.nodes(turn, turns):
            later, times = turns - turn if steps else 1, each * count
            runs.append(TokenRun(episode.written, begin, leaves * (later + steps), times, scored=leaves))
            if turn < turns and episode.observed:
                runs.append(TokenRun(episode.observed, begin + episode.written, leaves * later, times))
    return runs


def sliding_window(group: Group, episode: Episode) -> list[TokenRun]:
    """Lay out step rows with a prompt rendered for each: the group shares the first, copies of a turn share theirs.

    What histories happen to have in common is not known from the recipe.
    """
    runs = [TokenRun(episode.prompt, 0, group.leaves)]
    for turn, count in _laid_out(episode.turns):
        for leaves, each in group.nodes(turn, episode.turns):
            times = each * count
            if turn > 1:
                runs.append(TokenRun(episode.prompt, 0, leaves, times))
            runs.append(TokenRun(episode.written, episode.prompt, leaves, times, scored=leaves))
    return runs


def shared_prompt(group: Group, episode: Episode, *, steps: bool, windowed: bool = False) -> list[TokenRun]:
    """Lay out rows that share whole prompts and nothing else, the two-level form; ``windowed``: prompts of a window.

    >>> total(s.once() for s in shared_prompt(Group(1, 2), Episode(100, 2, 50), steps=False)).tokens
    400.0
    """
    if not steps:
        trained = episode.turns * episode.written
        answers = episode.length - episode.prompt - trained
        behind = [TokenRun(trained, episode.prompt, 1, group.leaves, scored=1)]
        behind += [TokenRun(answers, episode.prompt + trained, 1, group.leaves)] if answers else []
        return [TokenRun(episode.prompt, 0, group.leaves), *behind]
    runs = []
    for turn, count in _laid_out(episode.turns):
        context = episode.prompt if windowed else episode.before(turn)
        above = sum(times for _, times in group.nodes(turn - 1, episode.turns)) if turn > 1 else 1.0
        runs.append(TokenRun(context, 0, group.leaves / above, above * count))
        runs.append(TokenRun(episode.written, context, 1, group.leaves * count, scored=1))
    return runs

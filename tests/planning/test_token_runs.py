"""What rows are expected to share is what a trie of such rows has."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recipec.planning.token_runs import (
    Counts,
    Episode,
    Group,
    TokenRun,
    append_only,
    shared_prompt,
    sliding_window,
    total,
)
from recipec.runtime.attention.prefix_tree import build

small = st.integers(1, 4)


class Writer:
    """Tokens that occur nowhere else."""

    def __init__(self) -> None:
        """Begin at 0."""
        self.next = itertools.count()

    def __call__(self, length: int) -> list[int]:
        """Write some."""
        return [next(self.next) for _ in range(length)]


def episodes(group: int, episode: Episode) -> list[list[list[int]]]:
    """Contexts and answers of every turn of a group's episodes, prompts first."""
    write = Writer()
    prompt = write(int(episode.prompt))
    found = []
    for _ in range(group):
        turns, context = [], prompt
        for turn in range(1, episode.turns + 1):
            answer = write(int(episode.written))
            turns += [context, answer]
            context = [*context, *answer, *write(int(episode.observed))] if turn < episode.turns else []
        found.append(turns)
    return found


def merged(rows: list[list[int]], prompts: list[int] | None = None) -> tuple[float, float, float, float]:
    """Unique tokens and pairs of rows, and those of the rows themselves."""
    width = max(map(len, rows))
    laid = np.array([row + [0] * (width - len(row)) for row in rows])
    found = build(laid, np.array([len(row) for row in rows]), None if prompts is None else np.array(prompts))
    return found.size, found.pairs, found.dense_tokens, found.dense_pairs


def counted(segments: list[TokenRun]) -> tuple[float, float, float, float]:
    """The same of segments."""
    once, dense = total(s.once() for s in segments), total(s.dense() for s in segments)
    return once.tokens, once.pairs, dense.tokens, dense.pairs


@given(small, small, small, small, st.integers(0, 3))
def test_chains_are_counted_exactly(group: int, prompt: int, turns: int, written: int, observed: int) -> None:
    """Trajectories, step rows and the two-level form of both: tokens and pairs of a real trie."""
    episode = Episode(prompt, turns, written, observed)
    played = episodes(group, episode)
    whole = [[*turns[-2], *turns[-1]] for turns in played]
    steps = [[*turns[i], *turns[i + 1]] for turns in played for i in range(0, len(turns), 2)]
    contexts = [len(turns[i]) for turns in played for i in range(0, len(turns), 2)]
    assert counted(append_only(Group(group), episode, steps=False)) == merged(whole)
    assert counted(append_only(Group(group), episode, steps=True)) == merged(steps)
    assert counted(shared_prompt(Group(group), episode, steps=False)) == merged(whole, [prompt] * group)
    assert counted(shared_prompt(Group(group), episode, steps=True)) == merged(steps, contexts)


@given(small, small, small, small)
def test_windows_share_the_first_prompt(group: int, prompt: int, turns: int, written: int) -> None:
    """Prompts of a window are unique, but for the one that a group begins with."""
    write = Writer()
    first = write(prompt)
    rows = [(write(prompt) if turn else first) + write(written) for _ in range(group) for turn in range(turns)]
    episode = Episode(prompt, turns, written)
    assert counted(sliding_window(Group(group), episode)) == merged(rows)
    two = shared_prompt(Group(group), episode, steps=True, windowed=True)
    assert counted(two) == merged(rows, [prompt] * len(rows))


def test_an_expansion_costs_half_an_episode() -> None:
    """Two trees of a chain and two expansions: six rows, and the tokens of four episodes."""
    episode = Episode(100, 4, 20, 0)
    found = append_only(Group(2, 2), episode, steps=False)
    once, dense = total(s.once() for s in found), total(s.dense() for s in found)
    assert dense.tokens == pytest.approx(6 * episode.length)
    assert dense.logits == pytest.approx(6 * 4 * 20)
    assert once.tokens == pytest.approx(100 + 4 * 4 * 20)


def test_steps_of_a_tree_have_the_same_tokens() -> None:
    """A turn that several leaves share is a row for each, and its tokens are those of the trajectories."""
    episode = Episode(100, 4, 20, 30)
    rows, steps = (append_only(Group(2, 3), episode, steps=steps) for steps in (False, True))
    assert total(s.once() for s in steps) == total(s.once() for s in rows)
    assert total(s.dense() for s in steps).logits == pytest.approx(total(s.dense() for s in rows).logits)


def test_leaves_that_are_not_kept_are_not_computed() -> None:
    """Of three leaves one is a row: an episode and nothing shared but the prompt."""
    found = append_only(Group(2, 2, 1 / 3), Episode(0, 4, 20, 0), steps=False)
    assert total(s.dense() for s in found).tokens == pytest.approx(2 * 80)
    assert total(s.once() for s in found).tokens <= 2 * 80


@given(st.integers(1, 4), st.integers(1, 4))
def test_random_minibatches_compute_a_prefix_anew(rows: int, minibatches: int) -> None:
    """Each of some rows falls into a minibatch drawn uniformly: the expected number of minibatches with any of them."""
    dealt = itertools.product(range(minibatches), repeat=rows)
    expected = np.mean([len(set(one)) for one in dealt])
    assert TokenRun(1, 0, rows).once(minibatches).tokens == pytest.approx(expected)


def test_counts_add() -> None:
    """Everything is added."""
    assert Counts(1, 2, 3) + Counts(4, 5, 6) == Counts(5, 7, 9)


@pytest.mark.parametrize("steps", [True, False])
@pytest.mark.parametrize("lay_out", [append_only, shared_prompt])
def test_very_many_turns_are_counted_together(monkeypatch, lay_out, steps: bool) -> None:
    """Counts of 3,000 turns are those of each turn to four digits; a billion turns take no longer than a thousand."""
    group, episode = Group(2, 4, 0.6), Episode(100, 3_000, 50, 20)
    runs = lay_out(group, episode, steps=steps)
    monkeypatch.setattr("recipec.planning.token_runs.MOST_TURNS", 10**9)
    each = lay_out(group, episode, steps=steps)
    for of in (TokenRun.dense, TokenRun.once):
        together, one_by_one = total(map(of, runs)), total(map(of, each))
        assert together.tokens == pytest.approx(one_by_one.tokens, rel=1e-4)
        assert together.pairs == pytest.approx(one_by_one.pairs, rel=1e-3)
    monkeypatch.undo()
    assert len(lay_out(group, Episode(100, 10**9, 50, 20), steps=steps)) <= 4_001

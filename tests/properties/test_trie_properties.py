"""The trie against its definition, on random forests."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from recipec.runtime.attention.kernels.tiling import Tiling, tile
from recipec.runtime.attention.prefix_tree import PrefixTree, build

rows = st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=9), min_size=1, max_size=9)
"""Few ids, so that duplicates, prefixes of each other, empty rows and single tokens are common."""


def laid(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Pad rows on the right with an id that a row may hold as well."""
    lengths = np.array([len(s) for s in sequences])
    tokens = np.zeros((len(sequences), max(1, lengths.max())), dtype=np.int64)
    for row, sequence in zip(tokens, sequences, strict=True):
        row[: len(sequence)] = sequence
    return tokens, lengths


def visible(trie: PrefixTree) -> np.ndarray:
    """Which key each query sees, by the intervals."""
    i = np.arange(trie.size)
    return (i[None, :] <= i[:, None]) & (i[:, None] < trie.exit_N[None, :])


@given(rows)
def test_every_prefix_is_one_token_of_the_forest(sequences: list[list[int]]) -> None:
    """Two positions are one token exactly if the rows agree up to them; ids and positions are those of the rows."""
    tokens, lengths = laid(sequences)
    trie = build(tokens, lengths)
    numbers: dict[tuple[int, ...], int] = {}
    for sequence, node in zip(sequences, trie.node_RT, strict=True):
        for t in range(len(sequence)):
            j = int(node[t])
            assert numbers.setdefault(tuple(sequence[: t + 1]), j) == j
            assert (trie.tokens_N[j], trie.position_N[j]) == (sequence[t], t)
    assert sorted(numbers.values()) == list(range(trie.size))


@given(rows)
def test_a_token_sees_its_own_path_and_nothing_else(sequences: list[list[int]]) -> None:
    """The intervals are ancestry, and triangles and rectangles cover each visible pair exactly once."""
    tokens, lengths = laid(sequences)
    trie = build(tokens, lengths)
    expected = np.zeros((trie.size, trie.size), dtype=bool)
    for sequence, node in zip(sequences, trie.node_RT, strict=True):
        for t in range(len(sequence)):
            expected[node[t], node[: t + 1]] = True
    assert (visible(trie) == expected).all()
    count = np.zeros((trie.size, trie.size), dtype=int)
    for a, b, e in trie.pieces:
        count[a:b, a:b] += np.tril(np.ones((b - a, b - a), dtype=int))
        count[b:e, a:b] += 1
    assert (count == expected).all()
    assert trie.pairs == expected.sum()


@given(rows, st.sampled_from([0, 3, 8, 64]), st.sampled_from([0, 9, 512]))
def test_calls_cover_each_visible_pair_once(sequences: list[list[int]], limit: int, call: int) -> None:
    """Squares are every token once, and with the rectangles every visible pair; those of several nodes stay small."""
    trie = build(*laid(sequences))
    made = tile(trie.pieces, trie.exit_N, limit, call)
    assert [t for a, b, _ in made.squares for t in range(a, b)] == list(range(trie.size))
    assert all(not leaves or b - a <= limit for a, b, leaves in made.squares)
    assert (covered(trie, made) == visible(trie)).all()


def covered(trie: PrefixTree, made: Tiling) -> np.ndarray:
    """Count the calls that compute each pair."""
    count = np.zeros((trie.size, trie.size), dtype=int)
    for a, b, leaves in made.squares:
        place = np.arange(b - a)
        exits = np.frombuffer(leaves, np.int32) if leaves else np.full(b - a, b - a)
        count[a:b, a:b] += (place <= place[:, None]) & (place[:, None] < exits)
    for a, b, x, y in made.rectangles:
        count[x:y, a:b] += 1
    return count


@given(rows, st.sampled_from([0, 3, 8, 64]), st.sampled_from([0, 9, 512]), st.integers(0, 9), st.integers(0, 9))
def test_calls_cover_each_pair_of_tokens_that_are_not_given(
    sequences: list[list[int]], limit: int, call: int, row: int, depth: int
) -> None:
    """Where a path is given, the pairs of all other tokens are covered once."""
    trie = build(*laid(sequences))
    row %= len(sequences)
    given_N = np.zeros(trie.size, dtype=bool)
    given_N[trie.node_RT[row, : min(depth, trie.lengths_R[row])]] = True
    parted = trie.giving(given_N)
    count = covered(trie, tile(parted.pieces, parted.exit_N, limit, call, given_N))
    assert (count == visible(trie))[~given_N].all()


def test_a_given_prompt_costs_its_rectangle_only() -> None:
    """Answers attend to a prompt that an earlier pass computed: no triangle, and no queries of its later part."""
    trie = build(*laid([[0] * 90 + [i] * 90 for i in (1, 2, 3)]))
    for tokens in (90, 50):
        made = trie.giving(np.arange(trie.size) < tokens).tiling
        assert made.rectangles[0] == (0, tokens, tokens, 360)
        assert made.squares[0][0] == tokens


def test_small_subtrees_become_one_call() -> None:
    """A binary tree of 8-token nodes takes a call for 56 tokens at its ends; wide nodes stay triangles."""
    rows = [[0] * 8]
    for _ in range(4):
        rows = [row + [i] * 8 for row in rows for i in (1, 2)]
    small = build(*laid(rows)).tiling
    assert max(b - a for a, b, _ in small.squares) == 56
    assert len(small.squares) + len(small.rectangles) == 4 + 2 * 3
    wide = build(*laid([[0] * 90 + [i] * 90 for i in (1, 2, 3)])).tiling
    assert [(a, b, leaves) for a, b, leaves in wide.squares] == [(i * 90, i * 90 + 90, b"") for i in range(4)]
    assert wide.rectangles == ((0, 90, 90, 360),)


@given(rows)
def test_levels_are_disjoint_and_paths_are_complete(sequences: list[list[int]]) -> None:
    """Each level's subtrees do not overlap, all rectangles are in one level, and ancestors end where a node begins."""
    trie = build(*laid(sequences))
    listed = sorted(piece for level in trie.levels for piece in level)
    assert listed == [piece for piece in trie.pieces if piece[2] > piece[1]]
    for level in trie.levels:
        assert all(one[2] <= two[0] for one, two in pairwise(level))
    for (a, b, _), above in zip(trie.pieces, trie.ancestors, strict=True):
        path = [j for x, y in above for j in range(x, y)] + list(range(a, b))
        assert trie.position_N[path].tolist() == list(range(len(path)))


@given(rows, st.integers(1, 4))
def test_two_levels_share_whole_prompts_only(sequences: list[list[int]], asked: int) -> None:
    """With prompts given, rows share all of an equal prompt, and nothing behind it."""
    tokens, lengths = laid(sequences)
    prompts = np.minimum(asked, lengths)
    trie = build(tokens, lengths, prompts)
    unique = {(tuple(s[: int(p)])) for s, p in zip(sequences, prompts, strict=True)}
    assert trie.size == sum(map(len, unique)) + sum(len(s) - int(p) for s, p in zip(sequences, prompts, strict=True))
    for sequence, node in zip(sequences, trie.node_RT, strict=True):
        assert trie.tokens_N[node[: len(sequence)]].tolist() == sequence
        assert trie.position_N[node[: len(sequence)]].tolist() == list(range(len(sequence)))


def test_a_prompt_that_goes_on_as_another_is_another() -> None:
    """With prompts given, one that is the beginning of another shares nothing with it, though tokens agree."""
    tokens, lengths = laid([[1, 2, 3, 4], [1, 2, 3, 5]])
    assert build(tokens, lengths, np.array([2, 3])).size == 8
    assert build(tokens, lengths, np.array([3, 3])).size == 5


def test_subtrees_that_see_nothing_of_each_other_join_where_that_is_cheap() -> None:
    """Two rows of 16 tokens hide 2 x 16 x 16 pairs in one square: one call, where a call costs as much as those."""
    trie = build(*laid([[1] * 16, [2] * 16]))
    for call, squares in ((512, [(0, 32)]), (511, [(0, 16), (16, 32)])):
        assert [(a, b) for a, b, _ in tile(trie.pieces, trie.exit_N, call=call).squares] == squares


@pytest.mark.parametrize("width", [1, 7])
def test_equal_rows_are_one_path(width: int) -> None:
    """A group of equal rows costs one row."""
    trie = build(np.full((5, width), 3), np.full(5, width))
    assert trie.size == width
    assert trie.pieces == ((0, width, width),)
    assert (trie.node_RT == np.arange(width)).all()

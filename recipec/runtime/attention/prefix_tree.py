"""A prefix tree of sequences of token ids: each unique token once, in depth-first order.

A sorted sequence shares with its predecessor all that it shares with any earlier one, so the common prefixes of
neighbours define the whole tree.  A sequence adds the tokens after that prefix as one branch.  The numbers of earlier
positions and the ends of subtrees are running extremes over the sorted sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recipec.runtime.attention.kernels.tiling import Piece, Tiling, tile

Ints = NDArray[np.int64]


@dataclass(slots=True)
class TokensShared:
    """Counts the tokens of forward passes that share prefixes."""

    dense_tokens: int = 0
    """Tokens of the samples."""
    tokens: int = 0
    """Tokens that were computed."""


@dataclass(frozen=True)
class PrefixTree:
    """The prefix tree of R sequences with N unique tokens, in depth-first order; it may have several roots.

    Token i attends to token j exactly if ``j <= i < exit_N[j]``.
    """

    tokens_N: Ints
    position_N: Ints
    """Depth of each token, which is its position in every sequence that has it."""
    exit_N: Ints
    """First later token outside the subtree of each token."""
    node_RT: Ints
    """Number in the tree of the token at position t of sequence r; undefined after the end of the sequence."""
    lengths_R: Ints
    bounds: Ints
    """First token of each node, which is a run of tokens without a branch, and N."""
    given_N: NDArray[np.bool_] | None = None
    """Tokens with keys and values but without queries; a node is given whole or not at all."""

    def giving(self, given_N: NDArray[np.bool_]) -> PrefixTree:
        """Return the same tree with some tokens given."""
        begins = np.flatnonzero(given_N[1:] != given_N[:-1]) + 1
        return replace(self, bounds=np.union1d(self.bounds, begins), given_N=given_N)

    @property
    def size(self) -> int:
        """Number of unique tokens."""
        return len(self.tokens_N)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The nodes as causal triangles ``[a, b)`` and full rectangles: queries ``[b, e)``, keys ``[a, b)``."""
        begins, ends = self.bounds[:-1], self.bounds[1:]
        return tuple(zip(begins.tolist(), ends.tolist(), self.exit_N[ends - 1].tolist(), strict=True))

    @cached_property
    def tiling(self) -> Tiling:
        """The kernel calls that compute its attention on a CPU, the same for all layers and passes."""
        return tile(self.pieces, self.exit_N, given_N=self.given_N)

    @cached_property
    def levels(self) -> tuple[tuple[Piece, ...], ...]:
        """The nodes with a subtree, by the number of nodes above them; those of one level are disjoint."""
        begins, ends = self.bounds[:-1], self.exit_N[self.bounds[1:] - 1]
        change = np.bincount(begins, minlength=self.size + 1) - np.bincount(ends, minlength=self.size + 1)
        depth = np.cumsum(change)[begins] - 1
        by_level: dict[int, list[Piece]] = {}
        for piece, level in zip(self.pieces, depth.tolist(), strict=True):
            if piece[2] > piece[1]:
                by_level.setdefault(level, []).append(piece)
        return tuple(tuple(by_level[level]) for level in sorted(by_level))

    @cached_property
    def ancestors(self) -> tuple[tuple[tuple[int, int], ...], ...]:
        """Ranges of tokens above each node, from the root; together with its own they are its path."""
        stack: list[Piece] = []
        nodes = []
        for piece in self.pieces:
            while stack and stack[-1][2] <= piece[0]:
                stack.pop()
            nodes.append(tuple((a, b) for a, b, _ in stack))
            stack.append(piece)
        return tuple(nodes)

    @property
    def pairs(self) -> int:
        """Number of (query, key) pairs of its attention."""
        return int((self.position_N + 1).sum())

    def predictors(self, scored_RT: NDArray[np.bool_]) -> int:
        """Count the unique tokens that predict a scored one; a first token is predicted by none."""
        row, column = scored_RT[:, 1:].nonzero()
        return len(np.unique(self.node_RT[row, column]))

    @property
    def dense_tokens(self) -> int:
        """Number of tokens of the sequences."""
        return int(self.lengths_R.sum())

    @property
    def dense_pairs(self) -> int:
        """Number of (query, key) pairs if each sequence is computed on its own."""
        return int((self.lengths_R * (self.lengths_R + 1) // 2).sum())


def prompt_lengths(scored_RT: NDArray[Any], lengths_R: NDArray[Any]) -> NDArray[Any]:
    """Return how many tokens of each row come before its first scored one: all, where it has none.

    >>> prompt_lengths(np.array([[False, True], [False, False]]), np.array([2, 1])).tolist()
    [1, 1]
    """
    before_R: NDArray[Any] = np.minimum(np.where(scored_RT.any(-1), scored_RT.argmax(-1), lengths_R), lengths_R)
    return before_R


def build(tokens_RT: NDArray[Any], lengths_R: NDArray[Any], prompts_R: NDArray[Any] | None = None) -> PrefixTree:
    """Merge the common prefixes of sequences, which are right-padded to one width.

    With ``prompts_R``, the lengths of prompts, sequences share whole prompts only, and the tree has two levels.
    Time and memory are proportional to R T.

    >>> rows = np.array([[5, 6, 7], [5, 6, 8], [9, 0, 0]])
    >>> trie = build(rows, np.array([3, 3, 1]))
    >>> trie.tokens_N.tolist(), trie.position_N.tolist(), trie.exit_N.tolist()
    ([5, 6, 7, 8, 9], [0, 1, 2, 2, 0], [4, 4, 3, 4, 5])
    >>> trie.pieces
    ((0, 2, 4), (2, 3, 3), (3, 4, 4), (4, 5, 5))
    """
    lengths_R = np.asarray(lengths_R, dtype=np.int64)
    width = int(lengths_R.max(initial=0))
    tokens_RT = np.asarray(tokens_RT, dtype=np.int32)[:, :width]
    order_R, shared_R = neighbours(tokens_RT, lengths_R, prompts_R)
    sorted_RT, long_R = tokens_RT[order_R], lengths_R[order_R]
    begin_R = np.zeros(len(order_R) + 1, dtype=np.int64)
    np.cumsum(long_R - shared_R, out=begin_R[1:])
    size = int(begin_R[-1])
    column_T = np.arange(width, dtype=np.int32)
    own_RT = column_T >= shared_R.astype(np.int32)[:, None]  # tokens that the sequence adds, and its padding
    # 32 bits and no copies: memory traffic is most of the time of building
    node_RT = np.zeros((len(order_R), width), dtype=np.int32)
    # offsets grow with the sequence, so the latest sequence that adds position t has the largest
    np.copyto(node_RT, (begin_R[:-1] - shared_R).astype(np.int32)[:, None], where=own_RT)
    np.maximum.accumulate(node_RT, axis=0, out=node_RT)
    node_RT += column_T
    exit_RT = np.full((len(order_R), width), size, dtype=np.int32)
    np.copyto(exit_RT[:-1], begin_R[1:-1].astype(np.int32)[:, None], where=own_RT[1:])
    np.minimum.accumulate(exit_RT[::-1], axis=0, out=exit_RT[::-1])
    new_RT = own_RT & (column_T < long_R.astype(np.int32)[:, None])
    added_R = np.flatnonzero(long_R > shared_R)
    branched_R = added_R[shared_R[added_R] > 0]
    cuts: list[NDArray[Any]] = [begin_R[added_R], node_RT[branched_R, shared_R[branched_R] - 1] + 1, begin_R[-1:]]
    back_R = np.argsort(order_R)
    return PrefixTree(
        tokens_N=sorted_RT[new_RT].astype(np.int64),
        position_N=np.broadcast_to(column_T, new_RT.shape)[new_RT].astype(np.int64),
        exit_N=exit_RT[new_RT].astype(np.int64),
        node_RT=node_RT[back_R].astype(np.int64),
        lengths_R=lengths_R,
        bounds=np.unique(np.concatenate(cuts)).astype(np.int64),
    )


def neighbours(tokens_RT: NDArray[Any], lengths_R: Ints, prompts_R: NDArray[Any] | None) -> tuple[Ints, Ints]:
    """Return the order in which sequences share most with their neighbour, and how much each shares with the last."""
    keys = sort_keys(tokens_RT, lengths_R, prompts_R)
    order_R = np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    prompt_R = None if prompts_R is None else prompts_R[order_R]
    return order_R, common_prefixes(tokens_RT[order_R], lengths_R[order_R], prompt_R)


def sort_keys(tokens_RT: NDArray[Any], lengths_R: NDArray[Any], prompts_R: NDArray[Any] | None = None) -> list[Any]:
    r"""Return sort keys of sequences: neighbours in their order share most; by whole prompts first if they are given.

    >>> sort_keys(np.array([[1, 2]]), np.array([1]))
    [b'\x00\x00\x00\x01']
    """
    # bytes compare from the left, so big-endian ids compare as the ids do; a prefix sorts before what extends it
    ordered_RT = np.ascontiguousarray(tokens_RT.astype(">i4"))
    keys = [row[:n].tobytes() for row, n in zip(ordered_RT, lengths_R.tolist(), strict=True)]
    if prompts_R is None:
        return keys
    return [(key[: 4 * n], key) for key, n in zip(keys, prompts_R.tolist(), strict=True)]


def common_prefixes(tokens_RT: NDArray[Any], lengths_R: NDArray[Any], prompts_R: NDArray[Any] | None = None) -> Ints:
    """Return the length of the prefix that each sequence has in common with the one before it; 0 for the first.

    With ``prompts_R``, only whole prompts count.

    >>> common_prefixes(np.array([[1, 2, 3], [1, 2, 0], [4, 0, 0]]), np.array([3, 2, 1])).tolist()
    [0, 2, 0]
    """
    found_R = np.zeros(len(tokens_RT), dtype=np.int64)
    if len(tokens_RT) > 1 and tokens_RT.shape[1]:
        differs_RT = tokens_RT[1:] != tokens_RT[:-1]
        first_R = np.where(differs_RT.any(-1), differs_RT.argmax(-1), tokens_RT.shape[1])
        found_R[1:] = np.minimum(first_R, np.minimum(lengths_R[1:], lengths_R[:-1]))
    if prompts_R is not None:
        found_R[1:] = np.where((prompts_R[1:] == prompts_R[:-1]) & (found_R[1:] >= prompts_R[1:]), prompts_R[1:], 0)
    return found_R

"""Hand keys, values, hidden states and scores of shared prefixes to later forward passes, and their gradients back.

A segment of a prefix is computed once.  Passes that share it read detached copies of its keys and values in every
layer, of its last hidden states, and of the log-probabilities and entropies of its trained tokens; each of their
backward passes adds to the gradients of these copies.  After the last of them, one backward pass takes the gradients on
into the weights and into the segments above.  By the chain rule this is the gradient of one pass over all rows, at any
depth.

Passes are runs of rows in the order of their prefix tree, so the prefix that two passes share is in every pass between
them.  A segment is a piece of such a prefix: all of its tokens are shared from one pass on and until another.  All
segments that exist during a pass are on the paths of its own rows, so no more tokens are kept in memory than if the
pass computed them itself.

References:
    Li et al., `Schedule-Level Shared-Prefix Reuse <https://arxiv.org/abs/2606.01143>`_, 2026, for prompts of groups.
    `AReaL-DTA <https://arxiv.org/abs/2602.00482>`_, 2026, for trees, one row after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recipec.runtime.attention.microbatch_packing import Packing
from recipec.runtime.attention.prefix_tree import Ints, PrefixTree
from recipec.runtime.batch import Batch
from recipec.runtime.model.logprob_head import Score, TargetHiddenStates
from recipec.runtime.protocols import Policy


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``[begin, end)`` of a row, which passes ``first`` to ``last`` have in common.

    Example: ``Segment(2, 0, 5, 0, 1)``: the first five tokens of row 2, shared by passes 0 and 1.
    """

    row: int
    begin: int
    end: int
    first: int
    """Its tokens are on the path of the last row of this pass, and of the first row of later ones."""
    last: int


def segments(packing: Packing, lengths_R: Tensor, passes: Sequence[int]) -> list[Segment]:
    """Return what some passes, in rising order, hand over; segments of one pass from the root on.

    ``first`` and ``last`` count these passes.  The last token of a row predicts nothing and is not computed.

    >>> import torch
    >>> packing = Packing(tuple(torch.arange(3)[:, None]), (3, 3, 3), (0, 2, 1), (3, 3, 3))
    >>> segments(packing, torch.tensor([3, 3, 3]), [0, 1, 2])
    [Segment(row=1, begin=0, end=1, first=0, last=2), Segment(row=1, begin=1, end=2, first=0, last=1)]
    """
    ends = [0]  # of the path that each pass has in common with the one before it
    for before, after in pairwise(passes):
        rows = int(packing.parts[before][-1]), int(packing.parts[after][0])
        ends.append(min(common(packing, before, after), *(int(lengths_R[row]) - 1 for row in rows)))
    # of that path, what the next pass has in common too
    going_on = [min(a, b, packing.within[one]) for (a, b), one in zip(pairwise(ends), passes, strict=False)] + [0]
    shared_segments = []
    for place in range(1, len(passes)):
        row, begin, end, last = int(packing.parts[passes[place]][0]), going_on[place - 1], ends[place], place
        while end > begin:
            left = min(end, max(begin, going_on[last]))
            if left < end:
                shared_segments.append(Segment(row, left, end, place - 1, last))
            end, last = left, last + 1
    return sorted(shared_segments, key=lambda one: (one.first, one.begin))


def common(packing: Packing, before: int, after: int) -> int:
    """Return how many tokens the last row of a pass and the first row of a later one have in common."""
    return min((*packing.shared[before + 1 : after + 1], *packing.within[before + 1 : after]))


def handed_over(packing: Packing, passes: Sequence[int]) -> int:
    """Return how many tokens some passes need not compute again, because an earlier one of them did."""
    return sum(common(packing, before, after) for before, after in pairwise(passes))


class Prefix:
    """A segment that was computed, with its graph, until the last pass that shares it."""

    def __init__(self, segment: Segment, outputs: Sequence[Tensor]) -> None:
        """Keep keys and values of each layer in turn, then the hidden states."""
        self.segment = segment
        self.outputs, self.leaves = outputs, _leaves(outputs)
        self.scored_K: Ints | None = None
        """Positions in the rows of the tokens that it scores: those of the first pass that scores any."""
        self.scores: Sequence[Tensor] = ()
        self.score_leaves: Sequence[Tensor] = ()

    def scored(self, score: Score, target_K: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-probabilities and entropies of the tokens it scores; the first pass that needs them computes."""
        if not self.scores:
            assert self.scored_K is not None
            hidden_KH = self.outputs[-1][torch.from_numpy(self.scored_K - 1 - self.segment.begin)]
            self.scores = score(TargetHiddenStates(hidden_KH, torch.arange(len(target_K)).to(target_K), target_K))
            self.score_leaves = _leaves(self.scores)
        logprob_K, entropy_K = self.score_leaves
        return logprob_K, entropy_K

    def backward(self) -> None:
        """Take the gradients of all passes that shared it to the weights and to the segments above."""
        zipped = zip([*self.outputs, *self.scores], [*self.leaves, *self.score_leaves], strict=True)
        pairs = [(output, leaf.grad) for output, leaf in zipped if leaf.grad is not None]
        if pairs:
            outputs, grads = zip(*pairs, strict=True)
            torch.autograd.backward(outputs, grads)


def _leaves(outputs: Sequence[Tensor]) -> list[Tensor]:
    return [output.detach().requires_grad_(output.requires_grad) for output in outputs]


@dataclass(frozen=True, slots=True)
class Handed:
    """The segments that a pass is given."""

    prefixes: tuple[tuple[Prefix, int], ...]
    """Each with a row of the pass that begins with it."""
    kept: list[Tensor] | None = None
    """Keys and values of the pass itself, if it computes a segment."""


_handed: ContextVar[Handed | None] = ContextVar("handed", default=None)


def shared_tokens(tree: PrefixTree, device: torch.device) -> SharedTokens | None:
    """Return which tokens of a pass over ``tree`` earlier passes have computed, if passes hand over."""
    handed = _handed.get()
    return None if handed is None else SharedTokens(handed, tree, device)


class SharedTokens:
    """Tokens of a prefix tree that earlier passes have computed; the others are the pass's own."""

    def __init__(self, handed: Handed, tree: PrefixTree, device: torch.device) -> None:
        """Find the tokens of each segment in the tree."""
        self.handed = handed.prefixes
        self.kept = handed.kept
        spans = [tree.node_RT[row, one.segment.begin : one.segment.end] for one, row in handed.prefixes]
        node_G = np.concatenate([*spans, np.zeros(0, dtype=np.int64)])
        self.own = np.setdiff1d(np.arange(tree.size), node_G)
        from_N = np.empty(tree.size, dtype=np.int64)
        from_N[np.concatenate([node_G, self.own])] = np.arange(len(node_G) + len(self.own))
        self.count = len(node_G)
        shared_N = np.ones(tree.size, dtype=bool)
        shared_N[self.own] = False
        self.tree = tree.giving(shared_N)
        self.from_N, self.own_N = torch.from_numpy(from_N).to(device), torch.from_numpy(self.own).to(device)

    def all_keys(self, call: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values ``[1, G, N, D]`` of all tokens in a layer, from those of its own tokens."""
        if self.kept is not None and len(self.kept) == 2 * call:  # not when the layer is computed again
            self.kept += [key, value]
        keys, values = (
            torch.cat([*(prefix.leaves[2 * call + i] for prefix, _ in self.handed), own], 2).index_select(
                2, self.from_N
            )
            for i, own in enumerate((key, value))
        )
        return keys, values

    def all_queries(self, query: Tensor) -> Tensor:
        """Return queries of all tokens: zeros for shared ones, since their results are not used."""
        zeros = query.new_zeros((*query.shape[:2], self.count, query.shape[3]))
        return torch.cat([zeros, query], 2).index_select(2, self.from_N)

    def scored(self, tokens_RT: NDArray[Any], scored_RT: NDArray[Any]) -> list[tuple[Prefix, Ints, Ints]]:
        """Return each segment with what it scores for all passes: tokens that predict, and ids that they predict.

        The token before a segment is of another one, so that the first token of a segment is not among them.
        """
        found = []
        for prefix, row in self.handed if self.kept is None else ():
            begin, end = prefix.segment.begin + 1, prefix.segment.end
            if prefix.scored_K is None:
                prefix.scored_K = begin + np.flatnonzero(scored_RT[row, begin:end])
            found.append((prefix, self.tree.node_RT[row, prefix.scored_K - 1], tokens_RT[row, prefix.scored_K]))
        return found

    def all_hidden(self, hidden_NH: Tensor | None) -> Tensor:
        """Return the hidden states of all tokens."""
        own = [] if hidden_NH is None else [hidden_NH]
        return torch.cat([*(prefix.leaves[-1] for prefix, _ in self.handed), *own]).index_select(0, self.from_N)


class Handover:
    """What the passes of one rank hand over; see :func:`segments`."""

    def __init__(self, policy: Policy, rows: Batch, packing: Packing, passes: Sequence[int]) -> None:
        """Divide what ``passes`` of a packing of ``rows`` share."""
        self.policy, self.rows = policy, rows
        self.segments = segments(packing, rows["attend_RT"].sum(-1), passes)
        self.alive: list[Prefix] = []
        """Segments with their graphs, those above others first."""

    @contextmanager
    def during(self, place: int) -> Iterator[None]:
        """Give segments to pass ``place``; its forward and backward are made in this context."""
        for segment in self.segments:
            if segment.first == place:
                self.alive.append(self._computed(segment))
        if not self.alive:
            yield
            return
        rows = tuple((prefix, 0 if prefix.segment.first < place else -1) for prefix in self.alive)
        with _handing(Handed(rows)):
            yield
        for prefix in reversed(self.alive):
            if prefix.segment.last == place:
                prefix.backward()
        self.alive = [prefix for prefix in self.alive if prefix.segment.last > place]

    def _computed(self, segment: Segment) -> Prefix:
        above = tuple((prefix, 0) for prefix in self.alive if prefix.segment.last > segment.first)
        tokens_RT = self.rows["tokens_RT"][segment.row, : segment.end + 1][None].to(self.policy.device)
        scored_RT = torch.arange(segment.end + 1, device=tokens_RT.device)[None] > segment.begin
        kept: list[Tensor] = []
        with _handing(Handed(above, kept)):
            states = self.policy.attention.target_hidden_states(
                self.policy, tokens_RT, torch.ones_like(scored_RT), scored_RT
            )
        return Prefix(segment, [*kept, states.hidden_UH])


@contextmanager
def _handing(handed: Handed) -> Iterator[None]:
    token = _handed.set(handed)
    try:
        yield
    finally:
        _handed.reset(token)

"""Divide rows among forward passes so that rows with long common prefixes are in one pass.

Sorted rows are the leaves of their prefix tree from left to right, so a forward pass is a run of them.  The prefix that
the first row of a pass shares with the row before it is handed over (:mod:`.handover`) or computed again.  The
division has the fewest such tokens, and of such divisions the fewest passes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.prefix_tree import common_prefixes, sort_keys


@dataclass(frozen=True, slots=True)
class Packing:
    """Rows of each forward pass, and what passes have in common."""

    parts: tuple[Tensor, ...]
    """Rows in the order of their prefix tree, if passes share prefixes."""
    tokens: tuple[int, ...]
    """Tokens that each pass computes: shared ones once, padding included."""
    shared: tuple[int, ...] = ()
    """Tokens that the first row of each pass has in common with the last row of the pass before it."""
    within: tuple[int, ...] = ()
    """Tokens that any two neighbours in each pass have in common."""

    @property
    def recomputed_tokens(self) -> int:
        """Number of shared tokens that are computed more than once, unless passes hand them over."""
        return sum(self.shared)


def pack(
    tokens_RT: Tensor, lengths_R: Tensor, units: Sequence[Tensor], tokens: int, prompts_R: Tensor | None = None
) -> Packing:
    """Divide rows among forward passes of at most ``tokens`` unique tokens, the rows of a unit together.

    With ``prompts_R``, the lengths of prompts, rows share whole prompts only.  Time is that of sorting.

    >>> rows = torch.tensor([[7, 1, 1], [5, 2, 2], [7, 1, 3], [5, 2, 4]])
    >>> [part.tolist() for part in pack(rows, torch.full((4,), 3), list(torch.arange(4)[:, None]), 4).parts]
    [[1, 3], [0, 2]]

    Raises:
        RecipeError: RC768, a unit has more than ``tokens`` tokens.
    """
    long_R = lengths_R.cpu().numpy()
    ids_RT = tokens_RT.cpu().numpy()[:, : int(long_R.max(initial=0))]
    prompt_R = None if prompts_R is None else prompts_R.cpu().numpy()
    keys = sort_keys(ids_RT, long_R, prompt_R)
    inside = [sorted(unit.tolist(), key=lambda row: (keys[row], row)) for unit in units]
    inside.sort(key=lambda unit: (keys[unit[0]], unit[0]))
    order = [row for unit in inside for row in unit]
    shared_R = common_prefixes(ids_RT[order], long_R[order], None if prompt_R is None else prompt_R[order])
    own_R = long_R[order] - shared_R
    bounds = np.cumsum([0, *(len(unit) for unit in inside)]).tolist()
    added = np.add.reduceat(own_R, bounds[:-1]).tolist()
    runs = _runs(added, shared_R[bounds[:-1]].tolist(), tokens)
    parts = tuple(torch.tensor(order[bounds[begin] : bounds[end]]) for begin, end in runs)
    again = tuple(int(shared_R[bounds[begin]]) for begin, _ in runs)
    computed = tuple(sum(added[begin:end]) + first for (begin, end), first in zip(runs, again, strict=True))
    longest = int(long_R.max(initial=0))
    within = tuple(int(shared_R[bounds[begin] + 1 : bounds[end]].min(initial=longest)) for begin, end in runs)
    return Packing(parts, computed, again, within)


def _runs(added: Sequence[int], shared: Sequence[int], tokens: int) -> list[tuple[int, int]]:
    """Cut units into runs of at most ``tokens``; the first unit of a run computes its shared prefix again.

    >>> _runs([3, 1, 1, 3, 1], [0, 2, 2, 0, 2], 5)
    [(0, 3), (3, 5)]
    """
    total = np.cumsum([0, *added]).tolist()
    best = [(0, 0)]  # fewest recomputed tokens and fewest runs up to each unit
    came = [0]
    begins: deque[tuple[tuple[int, int], int]] = deque()  # where the last run may begin, best first, from left to right
    for end, (own, before) in enumerate(zip(added, shared, strict=True), 1):
        if own + before > tokens:
            raise RecipeError(errors.row_over_budget(own + before, tokens))
        key = (best[-1][0] + before, best[-1][1] + 1)
        while begins and begins[-1][0] > key:
            begins.pop()
        begins.append((key, end - 1))
        # a run that begins further left has more tokens, so one that does not fit now will not fit later
        while total[end] - total[begins[0][1]] + shared[begins[0][1]] > tokens:
            begins.popleft()
        best.append(begins[0][0])
        came.append(begins[0][1])
    runs = []
    end = len(added)
    while end:
        runs.append((came[end], end))
        end = came[end]
    return runs[::-1]

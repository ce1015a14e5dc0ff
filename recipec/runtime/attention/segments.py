"""Divide the prefixes that forward passes share into segments, each computed once and handed to the passes after it.

Passes are runs of rows in the order of their prefix tree, so the prefix that two passes share is in every pass between
them.  A segment is a piece of such a prefix: all of its tokens are shared from one pass on and until another.  It is
computed before the first of these passes and goes backward after the last one.  All segments that exist during a pass
are on the paths of its own rows, so no more tokens are kept in memory than if the pass computed them itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from recipec.runtime.attention.microbatch_packing import Packing


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

"""Cover the visible pairs of a prefix tree by few kernel calls.

A call costs as much as many pairs of tokens.  Small adjacent subtrees are therefore computed as one square under a mask
if its hidden pairs cost less than the calls that it replaces.  A larger node is a causal triangle, and a rectangle for
its subtree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Piece = tuple[int, int, int]
"""A node: tokens ``[a, b)``, and the end ``e`` of its subtree; tokens ``[b, e)`` attend to all tokens of the node."""
Square = tuple[int, int, bytes]
"""Tokens ``[a, b)`` among themselves; the ends of their subtrees, as int32 relative to a, or empty if causal."""

Rectangle = tuple[int, int, int, int]
"""Keys ``[a, b)`` and queries ``[x, y)``, all pairs of them visible."""

LIMIT = 64
"""Most tokens of a square of several nodes."""
CALL = 512
"""Pairs that take as long as the overhead of a call: about 1,500 with 4 heads of 64, fewer in wider models."""


@dataclass(frozen=True)
class Tiling:
    """Calls that together compute each visible pair once.

    Example: ``Tiling(((0, 4, b""), (4, 6, b"")), ((0, 4, 4, 6),))``: two triangles, and the subtree of the first.
    """

    squares: tuple[Square, ...]
    """Every token with a query is in one of them."""
    rectangles: tuple[Rectangle, ...]
    """Ancestors before their subtrees."""
    partial: bool = False
    """Whether there are tokens in none of the squares."""


def tile(
    pieces: Sequence[Piece],
    exit_N: NDArray[np.int64],
    limit: int = LIMIT,
    call: int = CALL,
    given_N: NDArray[np.bool_] | None = None,
) -> Tiling:
    """Choose the calls of a prefix tree, given its nodes in depth-first order.

    Squares of several nodes have at most ``limit`` tokens; the overhead of a call is ``call`` pairs.  Results of the
    tokens ``given_N`` are not needed: calls for them are left out.

    >>> exits = np.array([6, 6, 4, 4, 6, 6])
    >>> made = tile(((0, 2, 6), (2, 4, 4), (4, 6, 6)), exits)
    >>> [(a, b) for a, b, _ in made.squares], made.rectangles
    ([(0, 6)], ())
    >>> np.frombuffer(made.squares[0][2], np.int32).tolist()
    [6, 6, 4, 4, 6, 6]
    """
    whole = _whole(pieces, limit, call)
    following = {a: place for place, (a, _, _) in enumerate(pieces)}
    squares: list[tuple[int, int, bool]] = []
    rectangles: list[Rectangle] = []
    place, adjacent = 0, False
    while place < len(pieces):
        a, b, e = pieces[place]
        if not whole[place]:
            squares.append((a, b, False))
            if e > b:
                rectangles.append((a, b, b, e))
            place, adjacent = place + 1, False
            continue
        begin = squares[-1][0] if adjacent else a
        hidden = 2 * (a - begin) * (e - a)  # pairs of two runs that are invisible to each other
        if adjacent and e - begin <= limit and hidden <= call:
            squares[-1] = (begin, e, True)
        else:
            squares.append((a, e, e > b))
        place, adjacent = following.get(e, len(pieces)), True
    partial = given_N is not None
    if given_N is not None:
        squares = [square for square in squares if not given_N[square[0] : square[1]].all()]
        rectangles = [part for rectangle in rectangles for part in _asked(rectangle, given_N, call)]
    masked_squares = (
        (a, b, (exit_N[a:b] - a).astype(np.int32).tobytes() if masked else b"") for a, b, masked in squares
    )
    return Tiling(tuple(masked_squares), tuple(rectangles), partial)


def _asked(rectangle: Rectangle, given_N: NDArray[np.bool_], call: int) -> Iterator[Rectangle]:
    """Yield the parts of a rectangle with queries, parted where given tokens cost more than a call."""
    a, b, x, y = rectangle
    own = x + np.flatnonzero(~given_N[x:y])
    gaps = np.flatnonzero((np.diff(own) - 1) * (b - a) > call)
    for run in np.split(own, gaps + 1):
        if len(run):
            yield a, b, int(run[0]), int(run[-1]) + 1


def _whole(pieces: Sequence[Piece], limit: int, call: int) -> list[bool]:
    """Return which subtrees are cheapest as one square."""
    is_whole = [False] * len(pieces)
    rest = {pieces[-1][2]: 0} if pieces else {}  # least cost of the subtree that begins there and of all later ones
    for place in range(len(pieces) - 1, -1, -1):
        a, b, e = pieces[place]
        parts = call + (b - a) ** 2
        if e > b:
            parts += call + (b - a) * (e - b) + rest[b] - rest[e]
        is_whole[place] = e == b or (e - a <= limit and call + (e - a) ** 2 <= parts)
        rest[a] = rest[e] + (call + (e - a) ** 2 if is_whole[place] else parts)
    return is_whole

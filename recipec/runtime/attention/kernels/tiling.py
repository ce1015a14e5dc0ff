"""The visible pairs of a forest covered by few kernel calls.

A call costs as much as many pairs of tokens, so whole small subtrees that lie side by side are computed as one square
under a mask, where its hidden pairs cost less than the calls that it replaces.  Larger nodes are a causal triangle
each, and a rectangle for what stands below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Piece = tuple[int, int, int]
"""A node: its tokens ``[a, b)``, and the end ``e`` of its subtree, whose later tokens ``[b, e)`` see all of it."""
Square = tuple[int, int, bytes]
"""Tokens ``[a, b)`` among themselves; where each one's subtree ends, as int32 counted from a, or nothing if causal."""

LIMIT = 64
"""Most tokens of a square of several nodes."""
CALL = 512
"""Pairs that take as long as a call beside them: about 1,500 at 4 heads of 64, fewer the wider a model is."""


@dataclass(frozen=True)
class Tiling:
    """Calls that together compute each visible pair once.

    Example: ``Tiling(((0, 4, b""), (4, 6, b"")), ((0, 4, 6),))``: two triangles, and what stands below the first.
    """

    squares: tuple[Square, ...]
    """Every token is in one of them."""
    rectangles: tuple[Piece, ...]
    """Queries ``[b, e)`` and keys ``[a, b)``, all of them visible; keys of ancestors before those of their subtrees."""


def tile(pieces: Sequence[Piece], exit_N: NDArray[np.int64], limit: int = LIMIT, call: int = CALL) -> Tiling:
    """Choose the calls of a forest, given its nodes in depth-first order.

    Squares of several nodes have at most ``limit`` tokens; a call counts as ``call`` pairs.

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
    rectangles: list[Piece] = []
    place, beside = 0, False
    while place < len(pieces):
        a, b, e = pieces[place]
        if not whole[place]:
            squares.append((a, b, False))
            if e > b:
                rectangles.append((a, b, e))
            place, beside = place + 1, False
            continue
        begin = squares[-1][0] if beside else a
        hidden = 2 * (a - begin) * (e - a)  # pairs of two runs that do not see each other
        if beside and e - begin <= limit and hidden <= call:
            squares[-1] = (begin, e, True)
        else:
            squares.append((a, e, e > b))
        place, beside = following.get(e, len(pieces)), True
    made = ((a, b, (exit_N[a:b] - a).astype(np.int32).tobytes() if masked else b"") for a, b, masked in squares)
    return Tiling(tuple(made), tuple(rectangles))


def _whole(pieces: Sequence[Piece], limit: int, call: int) -> list[bool]:
    """Return which subtrees cost least as one square."""
    found = [False] * len(pieces)
    rest = {pieces[-1][2]: 0} if pieces else {}  # least cost of the subtree that begins there and of all behind it
    for place in range(len(pieces) - 1, -1, -1):
        a, b, e = pieces[place]
        parts = call + (b - a) ** 2
        if e > b:
            parts += call + (b - a) * (e - b) + rest[b] - rest[e]
        found[place] = e == b or (e - a <= limit and call + (e - a) ** 2 <= parts)
        rest[a] = rest[e] + (call + (e - a) ** 2 if found[place] else parts)
    return found

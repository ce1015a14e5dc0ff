"""Examples put together in blocks of bounded length, in which a step may be counted."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence


def best_fit(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return blocks of indices: the longest example first, each into the fullest block that still has room for it.

    No block has more than ``room`` tokens, unless a single example does. Of equally full blocks the oldest is filled.

    >>> best_fit([3, 9, 1, 6], 10)
    [[1, 2], [3, 0]]

    References:
        Ding et al., `Fewer Truncations Improve Language Modeling <https://arxiv.org/abs/2404.10830>`_, 2024; TRL,
        ``packing_strategy="bfd"``.
    """
    blocks: list[list[int]] = []
    open_by_room: dict[int, deque[int]] = {}
    rooms: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        place = bisect_left(rooms, lengths[index])
        if place < len(rooms):
            left = rooms[place]
            block = open_by_room[left].popleft()
            if not open_by_room[left]:
                del open_by_room[left], rooms[place]
        else:
            left, block = room, len(blocks)
            blocks.append([])
        blocks[block].append(index)
        if (rest := left - lengths[index]) > 0:
            if rest not in open_by_room:
                insort(rooms, rest)
            open_by_room.setdefault(rest, deque()).append(block)
    return blocks

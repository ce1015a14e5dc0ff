"""KV caches of finished rows, so that a row that continues one of them computes only its new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

LayerKV = tuple[Tensor, Tensor]
"""Keys and values of one row in one layer: head, column, size."""


@dataclass(slots=True, eq=False)
class KVEntry:
    """Keys and values of a row's beginning; a cache that may be dropped at any time.

    Any row that begins like it can go on from it, any number of times: it is only read.
    """

    ids: tuple[int, ...]
    parts: Sequence[LayerKV] | None
    """By layer; None once it was dropped."""
    size: int
    """In bytes."""
    store: KVStore

    def covers(self, ids: tuple[int, ...]) -> int:
        """Count the first tokens of ``ids`` that are cached; the last is never among them: it must be computed."""
        return 0 if self.parts is None else min(shared(self.ids, ids), len(ids) - 1)

    def drop(self) -> None:
        """Free it; a row that would have continued it computes its tokens again."""
        self.store.drop(self)


class KVStore:
    """Bounds the memory of the kept caches: where it is full, no more is kept."""

    def __init__(self, limit: float) -> None:
        """Allow ``limit`` bytes."""
        self.limit = limit
        self.bytes = 0
        self.entries: dict[int, KVEntry] = {}

    def keep(self, ids: tuple[int, ...], layers: Sequence[Any], row: int, start: int) -> KVEntry | None:
        """Copy a row's columns from ``start`` on, one for each id, out of every layer, if that fits."""
        end = start + len(ids)
        size = len(ids) * sum(
            one.shape[1] * one.shape[3] * one.element_size() for layer in layers for one in (layer.keys, layer.values)
        )
        if self.bytes + size > self.limit:
            return None
        entry = KVEntry(ids, [layer.row(row, start, end) for layer in layers], size, self)
        self.entries[id(entry)] = entry
        self.bytes += size
        return entry

    def drop(self, entry: KVEntry) -> None:
        """Free one; dropping it again does nothing."""
        if self.entries.pop(id(entry), None) is not None:
            self.bytes -= entry.size
            entry.parts = None

    def clear(self) -> None:
        """Free all."""
        for entry in list(self.entries.values()):
            self.drop(entry)


def shared(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Count the tokens that two rows begin with alike.

    >>> shared((1, 2, 3), (1, 2, 4, 5)), shared((), (1,)), shared((1, 2), (1, 2, 3))
    (2, 0, 2)
    """
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def new_tokens(prompts: Sequence[tuple[int, ...]], entries: Sequence[KVEntry | None]) -> list[int]:
    """Count the tokens of each prompt that are not cached, which is at least its last token."""
    return [
        len(ids) - (entry.covers(ids) if entry is not None else 0) for ids, entry in zip(prompts, entries, strict=True)
    ]


def prefill_first(new: Sequence[int]) -> list[int]:
    """Choose the prompts to read in a batch of their own, so that the others need not read as much as they must.

    All rows of a batch read as many tokens as the one with the most: the choice makes the fewest in all.

    >>> prefill_first([3, 90, 4, 3, 5, 2]), prefill_first([3, 4, 5])
    ([1], [])
    """
    order = sorted(range(len(new)), key=lambda i: -new[i])
    costs = [count * new[order[0]] + len(new) * new[order[count]] for count in range(len(new))]
    return sorted(order[: costs.index(min(costs))])

"""The order in which rows are drawn: shuffled anew in every epoch, continued exactly."""

from __future__ import annotations

from typing import Any

from recipec.runtime.draws import generator


class Order:
    """A cursor over ``size`` rows that never crosses the end of an epoch.

    Example: ``Order(3, 0, "explore", shuffle=False)`` takes 2 as ``[0, 1]``, then 2 as ``[2]``, then ``[0, 1]``.
    """

    def __init__(self, size: int, seed: int, stage: str, *, shuffle: bool) -> None:
        self.size = size
        self.epoch = 0
        self._cursor = 0
        self._key = (seed, stage)
        self._shuffle = shuffle
        self._rows = self._order()

    @property
    def remaining(self) -> int:
        """Rows left in this epoch, at least one."""
        return self.size - self._cursor

    def take(self, count: int) -> list[int]:
        """Return the next ``count`` rows, fewer at the end of the epoch; a finished epoch gives way to the next."""
        rows = self._rows[self._cursor : self._cursor + count]
        self._cursor += len(rows)
        if self._cursor == self.size:
            self.skip()
        return rows

    def skip(self) -> None:
        """End this epoch here."""
        self.epoch += 1
        self._cursor = 0
        self._rows = self._order()

    def state(self) -> dict[str, Any]:
        """Return epoch and cursor."""
        return {"epoch": self.epoch, "cursor": self._cursor}

    def load(self, state: dict[str, Any]) -> None:
        """Continue where ``state`` was taken."""
        self.epoch, self._cursor = int(state["epoch"]), int(state["cursor"])
        self._rows = self._order()

    def _order(self) -> list[int]:
        if not self._shuffle:
            return list(range(self.size))
        rows: list[int] = generator(*self._key, "order", self.epoch).permutation(self.size).tolist()
        return rows

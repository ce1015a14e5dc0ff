"""A fixed set of tasks or pairs, drawn from in an order of its own in every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from recipec.runtime.context import StageContext
from recipec.runtime.protocols import TaskSource
from recipec.runtime.rng import rng_for


class Table(TaskSource):
    """Columns along P that steps are drawn from.

    Example: ``Table({"prompt_P": tasks}, context).draw(4)`` gives the next four tasks.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        context: StageContext,
        *,
        shuffle: bool = True,
        blocks: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Take columns of equal length; with ``blocks`` of their rows, blocks are what is counted and shuffled."""
        self.columns = dict(columns)
        rows = len(next(iter(self.columns.values()), ()))
        self.blocks = [(row,) for row in range(rows)] if blocks is None else blocks
        self.context = context
        self.shuffle = shuffle
        self.epoch = 0
        self.cursor = 0

    def __len__(self) -> int:
        """Number of rows, or of blocks."""
        return len(self.blocks)

    def draw(self, count: int) -> dict[str, list[Any]]:
        """Return the next rows of the epoch, or those of the next blocks, fewer at its end; then begins another."""
        if self.cursor >= len(self):
            self.epoch, self.cursor = self.epoch + 1, 0
        order = range(len(self))
        if self.shuffle:
            draws = rng_for(self.context.seed, self.context.stage, "order", self.epoch)
            order = draws.permutation(len(self)).tolist()
        taken = order[self.cursor : self.cursor + count]
        self.cursor += count
        return self._rows(taken)

    def slices(self, count: int) -> Iterator[dict[str, list[Any]]]:
        """Yield every row once, in the order of the data, ``count`` at a time."""
        for start in range(0, len(self), count):
            yield self._rows(range(start, min(start + count, len(self))))

    def _rows(self, taken: Iterable[int]) -> dict[str, list[Any]]:
        rows = [row for block in taken for row in self.blocks[block]]
        return {name: [column[row] for row in rows] for name, column in self.columns.items()}

    def state(self) -> dict[str, int]:
        """Where the next draw begins."""
        return {"epoch": self.epoch, "cursor": self.cursor}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.epoch, self.cursor = int(state["epoch"]), int(state["cursor"])

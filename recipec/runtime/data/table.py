"""A fixed set of tasks or pairs, drawn from in an order of its own in every epoch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from recipec.runtime.context import StageContext
from recipec.runtime.protocols import TaskSource
from recipec.runtime.rng import rng_for
from recipec.spec.recipe import Kind

COLUMNS: Mapping[Kind, tuple[str, ...]] = {
    "rl": ("prompt_P",),
    "sft": ("prompt_P", "completion_P"),
    "dpo": ("prompt_P", "chosen_P", "rejected_P"),
    "rm": ("prompt_P", "chosen_P", "rejected_P"),
}
"""Signals of the data of a stage."""


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
        self.retired: list[int] = []
        """Rows to leave out of later epochs, in the order in which they were retired."""
        self.absent: frozenset[int] = frozenset()
        """Rows that are left out of this epoch."""

    def __len__(self) -> int:
        """Number of rows, or of blocks."""
        return len(self.blocks)

    def draw(self, count: int) -> dict[str, list[Any]]:
        """Return the next rows of the epoch, or those of the next blocks, fewer at its end; then begins another."""
        if self.cursor >= len(self) - len(self.absent):
            self.epoch, self.cursor = self.epoch + 1, 0
            # an epoch has one step of rows at least: those that were retired last come back
            self.absent = frozenset(self.retired[: max(0, len(self) - count)])
        order: Sequence[int] = range(len(self))
        if self.shuffle:
            draws = rng_for(self.context.seed, self.context.stage, "order", self.epoch)
            order = draws.permutation(len(self)).tolist()
        if self.absent:
            order = [row for row in order if row not in self.absent]
        indices = order[self.cursor : self.cursor + count]
        self.cursor += count
        return self._rows(indices)

    def retire(self, prompts: Collection[int]) -> int:
        """Leave the rows of these tasks out of later epochs; return how many rows are by now.

        >>> from pathlib import Path
        >>> from recipec.runtime.batch import Task
        >>> tasks = [Task(number, "", ()) for number in range(3)]
        >>> table = Table({"prompt_P": tasks}, StageContext(Path(), Path(), 0, "a"), shuffle=False)
        >>> _ = table.draw(3), table.retire([1]), table.retire([1])
        >>> [task.id for task in table.draw(2)["prompt_P"]]
        [0, 2]
        """
        known = set(self.retired)
        ids = {task.id: row for row, task in enumerate(self.columns["prompt_P"])}
        self.retired += sorted({ids[prompt] for prompt in prompts} - known)
        return len(self.retired)

    def slices(self, count: int) -> Iterator[dict[str, list[Any]]]:
        """Yield every row once, in the order of the data, ``count`` at a time."""
        for start in range(0, len(self), count):
            yield self._rows(range(start, min(start + count, len(self))))

    def _rows(self, indices: Iterable[int]) -> dict[str, list[Any]]:
        rows = [row for block in indices for row in self.blocks[block]]
        return {name: [column[row] for row in rows] for name, column in self.columns.items()}

    def state(self) -> dict[str, Any]:
        """Where the next draw begins, and what is left out."""
        place: dict[str, Any] = {"epoch": self.epoch, "cursor": self.cursor}
        return place | ({"retired": self.retired, "absent": sorted(self.absent)} if self.retired else {})

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.epoch, self.cursor = int(state["epoch"]), int(state["cursor"])
        self.retired, self.absent = list(state.get("retired", ())), frozenset(state.get("absent", ()))

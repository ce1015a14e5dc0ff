"""TensorBoard events of a stage, in `tensorboard/` of the run directory."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from recipec.runtime.logging.tracker import TrackedStage, Tracker


class TensorBoardTracker(Tracker):
    """Writes events; a stage that is continued or replaced writes all of them again."""

    def __init__(self, stage: TrackedStage) -> None:
        """Every stage has one, so there is no spec."""
        super().__init__(None, stage)
        self._events: Any = None

    def begin(self) -> int:
        """Delete the events of a killed or replaced run."""
        from tensorboard.summary import Writer  # noqa: PLC0415 - half a second that a short run need not pay twice

        folder = self.stage.folder / "tensorboard" / self.stage.stage
        shutil.rmtree(folder, ignore_errors=True)
        self._events = Writer(str(folder))
        return -1

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one event a metric."""
        for name, value in metrics.items():
            self._events.add_scalar(f"{self.stage.stage}/{name}", value, step=step)

    def close(self) -> None:
        """Flush the events.

        Raises:
            OSError: the thread that writes them could not write one; to close them alone would not say it.
        """
        try:
            self._events.flush()
        finally:
            self._events.close()

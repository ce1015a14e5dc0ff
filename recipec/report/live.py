"""The report of a run, written again while its steps go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from recipec.diagnostics.model import RecipeError
from recipec.host.progress import Progress
from recipec.report import page

SHARE = 50
"""The run takes at least this many times as long as writing its report."""
LEAST = 20.0
"""Seconds between two reports, at least."""


class LiveReport:
    """Shows the steps of a stage on the terminal and, now and then, in the run's report.

    After a report that took w seconds, the next is written when max(20, 50 w) seconds have passed: large runs spend at
    most 2% of their time on it.  A report that cannot be written is left to the end of the stage, which reports why.
    """

    def __init__(self, progress: Progress, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """The first report of a run is due at once; that of a continued run, which has one, after 20 seconds."""
        self.progress = progress
        self.folder = folder
        self.clock = clock
        self.due = clock() + (LEAST if (folder / "report.html").exists() else 0.0)

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show a step; write the report if it is due."""
        self.progress.step(stage, step, total, metrics)
        began = self.clock()
        if began < self.due:
            return
        with suppress(RecipeError, OSError):
            page.write(self.folder, live=True)
        ended = self.clock()
        self.due = ended + max(LEAST, SHARE * (ended - began))

"""Progress of a run on stderr: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from recipec.host.journal import CLOCK

_FAILURES = ("/errors", "/tool_failures")
"""Ends of the names of held-out metrics that are only shown where they are not 0."""

_SHOWN = ("reward", "loss", "kl", "entropy", "rewards/margins", "rewards/accuracies", "grad_norm")


class Progress:
    """Reports the progress of a stage: a progress bar on a terminal, a line now and then in a log file."""

    def __init__(self, *, quiet: bool = False, live: bool | None = None) -> None:
        """Without ``live``, a progress bar is shown on a terminal."""
        self.quiet = quiet
        self.live = sys.stderr.isatty() if live is None else live
        self._progress: Any = None
        self._task: Any = None
        self._stage = ""
        self._began = 0.0
        self._first = 0
        self._said = 0.0

    def say(self, text: str) -> None:
        """Print one line."""
        if self.quiet:
            return
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def skipped(self, stage: str) -> None:
        """Say that a stage was finished before."""
        self.say(f"{stage}: finished before, skipped")

    def evaluated(self, stage: str, when: str, metrics: Mapping[str, float]) -> None:
        """Show the held-out metrics of a moment."""
        lines: dict[str, list[str]] = {}
        for name, value in metrics.items():
            if not name.startswith(CLOCK) and (value or not name.endswith(_FAILURES)):
                evaluation, _, metric = name.rpartition("/")
                lines.setdefault(evaluation, []).append(f"{metric} {value:.3f}")
        for evaluation, shown in lines.items():
            self.say(f"{stage}: {when}: {evaluation}/{', '.join(shown)}")

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Show a step."""
        if self.quiet:
            return
        if stage != self._stage:
            took = metrics.get("seconds/step", 0.0)  # the first step shown began before it was shown
            self._stage, self._began, self._first = stage, time.monotonic() - took, step - 1
            self._open(stage, total)
        line = _line(metrics)
        if self._progress is not None:
            self._progress.update(self._task, completed=step, metrics=line)
            return
        now = time.monotonic()
        if step == total or now - self._said >= 5:
            self._said = now
            left = (now - self._began) / max(1, step - self._first) * (total - step)
            self.say(f"{stage}: step {step}/{total}  {line}  {left:.0f} s left")

    def close(self) -> None:
        """Restore the terminal."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _open(self, stage: str, total: int) -> None:
        if not self.live:
            return
        from rich.console import Console  # noqa: PLC0415 - 40 ms that only a terminal needs
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415
        from rich.table import Column  # noqa: PLC0415

        self.close()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[metrics]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            expand=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(stage, total=total, metrics="")


def _line(metrics: Mapping[str, float]) -> str:
    shown = [f"{name} {metrics[name]:.3g}" for name in _SHOWN if name in metrics]
    if metrics.get("episodes/errors"):
        shown.append(f"{metrics['episodes/errors']:.0f} episodes in error")
    if "rate/tokens_per_second" in metrics:
        shown.append(f"{metrics['rate/tokens_per_second']:.0f} tokens/s")
    return "  ".join(shown)

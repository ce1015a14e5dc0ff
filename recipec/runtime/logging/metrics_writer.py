"""Metrics of a running stage: one JSON line a step, and TensorBoard events."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipec.run.artifacts import hash_file
from recipec.run.journal import METRICS
from recipec.run.jsonl import read_lines
from recipec.run.ranks import place


class MetricsWriter:
    """``metrics.jsonl`` of one stage: one JSON object a line, append-only, cut back to the checkpoint on continuation.

    Example line: ``{"stage": "explore", "step": 3, "reward": 0.25, "kl": 0.01, "seconds/step": 1.9}``.
    Keys that begin with ``seconds/`` or ``rate/`` depend on the clock; all others are the same in every run.
    Of the processes of a run, the leader writes.
    """

    def __init__(self, folder: Path, stage: str, events: Path) -> None:
        """Open the journal of ``stage`` in ``folder``; TensorBoard events go to the stage's folder in ``events``."""
        self.path = folder / METRICS
        self.stage = stage
        self._events_folder = events / stage
        self._events: Any = None
        self._leads = place().leads
        folder.mkdir(parents=True, exist_ok=True)

    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the journal; none in a process that does not write it."""
        return list(read_lines(self.path)) if self._leads else []

    def position(self) -> int:
        """Bytes written: what a checkpoint remembers."""
        return self.path.stat().st_size if self.path.exists() else 0

    def digest(self) -> str:
        """Return the hash of the bytes written; a checkpoint remembers it with their number."""
        return hash_file(self.path) if self.path.exists() else hashlib.sha256().hexdigest()

    def cut(self, position: int, digest: str | None = None) -> bool:
        """Forget what was written after ``position``, torn lines among it; return whether all before it is there.

        ``digest`` is the hash of what was before it, where the checkpoint has one.
        """
        if not self._leads or not self.path.exists():
            return position == 0 or not self._leads
        with self.path.open("r+b") as stream:
            kept = stream.read(position)
            # a line that was cut off would swallow the next one; that of another run ends elsewhere
            whole = len(kept) == position and kept[-1:] in {b"", b"\n"}
            stream.truncate(position if whole else kept.rfind(b"\n") + 1)
            stream.flush()
            os.fsync(stream.fileno())
        return whole and digest in {None, hashlib.sha256(kept).hexdigest()}

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line; numbers that are not finite become null."""
        if not self._leads:
            return
        clean = {k: (v if math.isfinite(v) else None) for k, v in sorted(metrics.items())}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"stage": self.stage, "step": step, **clean}) + "\n")
        if self._events is None:
            self._open_events()
        else:
            self._add_event(step, clean)

    def sync(self) -> None:
        """Make what was written durable, before a checkpoint names its position."""
        if self.path.exists():
            with self.path.open("rb") as stream:
                os.fsync(stream.fileno())

    def close(self) -> None:
        """Flush the events."""
        if self._events is not None:
            self._events.close()

    def _open_events(self) -> None:
        """Write the events of every line of the journal again: those of a killed or replaced run are not in it."""
        from tensorboard.summary import Writer  # noqa: PLC0415 - half a second that a short run need not pay twice

        shutil.rmtree(self._events_folder, ignore_errors=True)
        self._events = Writer(str(self._events_folder))
        for line in read_lines(self.path):
            self._add_event(int(line["step"]), {k: v for k, v in line.items() if k not in {"stage", "step"}})

    def _add_event(self, step: int, metrics: Mapping[str, float | None]) -> None:
        for name, value in metrics.items():
            if value is not None:
                self._events.add_scalar(f"{self.stage}/{name}", value, step=step)

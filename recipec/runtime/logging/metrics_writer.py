"""Metrics of a running stage: one JSON line a step, also sent to TensorBoard and to trackers."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipec.host.artifacts import hash_file, sync
from recipec.host.journal import METRICS
from recipec.host.jsonl import read_lines
from recipec.host.ranks import place
from recipec.runtime.logging.tracker import Tracker


class MetricsWriter:
    """``metrics.jsonl`` of one stage: one JSON object a line, append-only, cut back to the checkpoint on continuation.

    Example line: ``{"stage": "explore", "step": 3, "reward": 0.25, "kl": 0.01, "seconds/step": 1.9}``.
    Keys that begin with ``seconds/`` or ``rate/`` depend on the clock; all others are the same in every run.
    Of the processes of a run, the leader writes.
    """

    def __init__(self, folder: Path, stage: str, trackers: Sequence[Tracker] = ()) -> None:
        """Open the journal of ``stage`` in ``folder``; its lines also go to ``trackers``, from the first one on."""
        self.path = folder / METRICS
        self.stage = stage
        self._trackers = trackers
        self._tracked: dict[Tracker, int] = {}
        """The last step that a tracker had when it was opened."""
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
            journal = stream.read(min(position, self.position()))
            # a line that was cut off would swallow the next one; that of another run ends elsewhere
            is_whole = len(journal) == position and journal[-1:] in {b"", b"\n"}
            stream.truncate(position if is_whole else journal.rfind(b"\n") + 1)
            stream.flush()
            os.fsync(stream.fileno())
        return is_whole and digest in {None, hashlib.sha256(journal).hexdigest()}

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line; numbers that are not finite become null."""
        if not self._leads:
            return
        clean = {k: (v if math.isfinite(v) else None) for k, v in sorted(metrics.items())}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"stage": self.stage, "step": step, **clean}) + "\n")
        self._send([{"step": step, **clean}])

    def complete(self) -> None:
        """Close the trackers, after they have what they lack because a run was killed after its last step.

        This is before the policy is saved: a stage that has one is not run again, nor its metrics sent.
        """
        if self._leads and not self._tracked:
            self._send([])
        self.close()

    def sync(self) -> None:
        """Make what was written durable, before a checkpoint names its position."""
        if self.path.exists():
            sync(self.path)

    def close(self) -> None:
        """Close the trackers that are open."""
        while self._tracked:
            self._tracked.popitem()[0].close()

    def _send(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Send lines to every tracker; first, where it has to be opened, those of the journal that it does not have."""
        pending = lines if self._tracked else read_lines(self.path)
        for tracker in self._trackers:
            if tracker not in self._tracked:  # not before there is a line: what opens one may take seconds
                self._tracked[tracker] = tracker.begin()
            for line in pending:
                if line["step"] > self._tracked[tracker]:
                    tracker.write(int(line["step"]), _finite(line))


def _finite(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a line.

    >>> _finite({"stage": "explore", "step": 3, "reward": 0.25, "kl": None})
    {'reward': 0.25}
    """
    return {name: value for name, value in line.items() if name not in {"stage", "step"} and value is not None}

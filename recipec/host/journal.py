"""Whether the metrics and the samples of a stage are those that it wrote."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recipec.host.artifacts import MANIFEST, RunFolder, read_manifest
from recipec.host.checksums import DIFFERS, damaged
from recipec.host.jsonl import read_lines, unreadable_line

METRICS = "metrics.jsonl"
SAMPLES = "samples"
CLOCK = ("seconds/", "rate/")
"""What the names of metrics begin with that depend on the clock; all others are the same in every run."""
_LATER = "eval/"
"""Of the last line: evaluations can be added after the stage is finished."""


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the number of lines, the last step and a hash of the metrics of a stage, the same in every run of it.

    >>> summary([{"step": 1, "loss": 0.5, "seconds/step": 2.0}]) == summary([{"step": 1, "loss": 0.5}])
    True
    """
    digest = hashlib.sha256()
    for number, row in enumerate(rows, 1):
        left_out = (*CLOCK, _LATER) if number == len(rows) else CLOCK
        digest.update(json.dumps({k: v for k, v in row.items() if not k.startswith(left_out)}).encode() + b"\n")
    step = rows[-1].get("step", 0) if rows else 0
    return {"lines": len(rows), "step": step, "sha256": digest.hexdigest()}


def written(home: Path) -> dict[str, Any] | None:
    """Return the summary that the manifest of a finished stage keeps; None if it is not finished or has none."""
    manifest = read_manifest(home / "policy") or {}
    metrics = manifest.get("metrics")
    if (digest := RunFolder(home.parent.parent).digest_of(home.name)) and digest != manifest.get("digest"):
        return None  # the stage runs again, and the policy is the one before
    return metrics if isinstance(metrics, dict) else None


def damage(home: Path) -> Iterator[tuple[str, str]]:
    """Yield each file of a finished stage that is not as the stage wrote it, relative to its folder, and the problem.

    The metrics are compared with the policy's manifest, the samples with the hashes next to them.
    """
    if os.path.lexists(home / "policy" / MANIFEST) and read_manifest(home / "policy") is None:
        yield f"policy/{MANIFEST}", "cannot be read: nothing of the stage is verified"
    if problem := _lost(home):
        yield METRICS, problem
    if written(home) is not None:
        for name in damaged(home / SAMPLES):
            yield f"{SAMPLES}/{name}", DIFFERS


def _lost(home: Path) -> str:
    then, now = written(home), summary(read_lines(home / METRICS))
    if then is None:
        return ""
    if then.get("lines") != now["lines"]:
        return f"has {now['lines']} of the {then.get('lines')} lines that the stage wrote"
    if then != now:
        return "has other numbers than the stage wrote"
    foreign = unreadable_line(home / METRICS)
    return f"has a line that the stage did not write and that cannot be read, line {foreign}" if foreign else ""

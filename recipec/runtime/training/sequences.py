"""Tokens of one sequence over several devices: planned, and not run by this version."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.diagnostics.errors.machine import sequences_not_spread
from recipec.diagnostics.model import Diagnostic
from recipec.run.preflight import PreflightRequest
from recipec.spec.train_engine import TrainEngine


def check(spec: TrainEngine, request: PreflightRequest) -> Iterator[Diagnostic]:  # noqa: ARG001 - one signature
    """Yield RC539 where a recipe spreads sequences."""
    if spec.sequence_partitions() > 1:
        yield sequences_not_spread(spec.sequence_partitions())

"""Which training engines spread the tokens of one sequence over devices."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.diagnostics.errors.machine import sequences_not_spread
from recipec.diagnostics.model import Diagnostic
from recipec.host.preflight import PreflightRequest
from recipec.spec.train_engine import TrainEngine


def check(spec: TrainEngine, request: PreflightRequest) -> Iterator[Diagnostic]:  # noqa: ARG001 - one signature
    """Yield RC539 where a recipe spreads sequences and the engine computes whole ones."""
    if spec.sequence_partitions() > 1 and not spec.spreads_sequences:
        yield sequences_not_spread(spec.sequence_partitions(), f"`{spec.type_name}` computes whole sequences")

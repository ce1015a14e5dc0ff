"""The trackers of one stage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from recipec import graph as graphs
from recipec.diagnostics.model import Diagnostic
from recipec.graph import Graph, StageGraph
from recipec.host.artifacts import RunFolder
from recipec.runtime.logging.tensorboard_tracker import TensorBoardTracker
from recipec.runtime.logging.tracker import LenientTracker, TrackedStage, Tracker


def trackers_of(
    graph: Graph, stage: StageGraph, folder: RunFolder, digest: str, warn: Callable[[Diagnostic], None]
) -> list[Tracker]:
    """Build TensorBoard's and those of the recipe; ``digest`` is the run digest of the stage."""
    path = Path(folder.path)
    key = graphs.digest(graph.name, path.name, folder.begun(), stage.name, digest)
    settings = {"seed": graph.seed, **graphs.settings_of(stage)}
    about = TrackedStage(graph.name, stage.name, path, key, settings)
    named = [(name, spec.load()(spec, about)) for name, spec in graph.trackers.items()]
    return [TensorBoardTracker(about), *(LenientTracker(name, tracker, warn) for name, tracker in named)]

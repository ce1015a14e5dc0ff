"""Save the rollouts of an RL step, and the time-dependent outcomes that a resumed step must replay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from recipec.graph import Node
from recipec.host.artifacts import RunFolder, hash_file, sync
from recipec.runtime.environment import replayed
from recipec.runtime.graph_runner import Values
from recipec.runtime.images.image_store import show
from recipec.runtime.logging import statistics
from recipec.runtime.stage.running_stage import RunningStage


def begin(stage: RunningStage, nodes: Sequence[Node]) -> None:
    """Begin a step; where it was interrupted after its rows were kept, what timed out then times out again."""
    stage.runner.recorded = stage.context.ranks.on_leader(lambda: statistics.recorded(rows_path(stage), nodes))
    if stage.lookahead is None:  # else its rows are sampled already
        replayed.begin(stage.environment, rows_path(stage))


def keep(stage: RunningStage, values: Values, nodes: Sequence[Node]) -> None:
    """Keep the rows of an rl step: browsable samples, and what later stages read as rollouts."""
    if stage.graph.kind == "rl":
        if stage.lookahead is None:
            replayed.note(stage.environment, rows_path(stage))
        statistics.write_rollouts(values, nodes, rows_path(stage), stage.step + 1, stage.policy.decode)
        tasks = (task for value, column in values.items() if value.signal == "prompt_P" for task in column)
        show(stage.policy.image_store, rows_path(stage), tasks)
        if stage.context.ranks.leads:
            sync(rows_path(stage), deep=False)
            stage.counters.samples[rows_path(stage).name] = hash_file(rows_path(stage))


def damaged(folder: Path, hashes: Mapping[str, str]) -> Path | None:
    """Return a file of sampled rows that is missing or was altered, if there is one."""
    for name, known in hashes.items():
        path = folder / Path(name).name
        if not path.is_file() or hash_file(path) != known:
            return path
    return None


def rows_path(stage: RunningStage) -> Path:
    """Where the rows of the step that is running are kept; steps count from 1, as in metrics."""
    return path_of(stage.folder, stage.graph.name, stage.step)


def path_of(folder: RunFolder, stage: str, step: int) -> Path:
    """Where the rows of a step, counted from 0, are kept."""
    return folder.stage(stage) / "samples" / f"step-{step + 1:06d}.jsonl"

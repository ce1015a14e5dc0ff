"""What a finished stage leaves behind: its policy, the rows it was trained on, and the pairs that it made."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import committed, verify_folder
from recipec.host.journal import summary
from recipec.host.packages import versions
from recipec.runtime.model import fixed_outputs
from recipec.runtime.stage import rollout_log
from recipec.runtime.stage.running_stage import RunningStage


def commit(stage: RunningStage) -> None:
    """Save what the stage leaves behind: its policy last, since that says that the stage is done."""
    name = stage.graph.name
    home = stage.folder.stage(name)
    about = {"digest": stage.digest, "stage": name, "versions": versions()}
    metrics = {"metrics": summary(stage.metrics_writer.lines())}
    writers: dict[str, Callable[[Path], None]] = {
        "policy": stage.train_engine.save,
        "rollouts": partial(_copy_rollouts, home / "samples", stage.counters.samples),
    }
    for node in stage.graph.nodes():
        if node.slot == "preference":
            writers["pairs"] = stage.runner.instance(node).write
    ranks = stage.context.ranks
    for artifact in sorted(stage.graph.artifacts, key=lambda a: a == "policy"):

        def committed_before(final: Path = home / artifact) -> bool:
            there = verify_folder(final)
            return there is not None and there.get("digest") == stage.digest

        if ranks.on_leader(committed_before):
            continue  # before the run was killed

        def write(artifact: str = artifact) -> None:
            metadata: dict[str, Any] = {**about, "artifact": artifact}
            if artifact == "policy":
                metadata |= {**metrics, fixed_outputs.KEY: fixed_outputs.fixed_outputs(stage.policy)}
            with committed(home / artifact, metadata) as folder:
                writers[artifact](folder)

        ranks.all_gather(f"saving {artifact}", write)  # the next stage begins with what the leader has written


def _copy_rollouts(samples: Path, hashes: Mapping[str, str], folder: Path) -> None:
    lost = rollout_log.damaged(samples, hashes)
    if lost is not None:
        raise RecipeError(errors.damaged_artifact(str(lost)))
    for name in sorted(hashes):
        shutil.copy2(samples / name, folder / name)

"""Checkpoints of a running stage: committed, pruned, and continued from."""

from __future__ import annotations

import json

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.run.artifacts import committed, set_aside, verify_folder
from recipec.runtime.running_stage import RunningStage
from recipec.runtime.training.state_files import conditions, load_state, save_state


def save(stage: RunningStage) -> None:
    """Commit a checkpoint of this step, then prune the older ones."""
    name = stage.graph.name
    stage.metrics_writer.sync()
    final = stage.folder.stage(name) / "checkpoints" / f"step-{stage.step:06d}"
    if final.exists() and verify_folder(final) is not None:
        return
    state = {name: found for name, part in stage.parts() if (found := part.state())}
    about = {"digest": stage.digest, "step": stage.step, "conditions": conditions_of(stage)}
    with committed(final, about) as folder:
        counters = {"step": stage.step, "tokens": stage.counters.tokens, "journal": stage.metrics_writer.position()}
        save_state(folder, {"parts": state, **counters})
    prune(stage)


def prune(stage: RunningStage) -> None:
    """Delete the checkpoints that are more than the budget keeps."""
    stage.folder.prune(stage.graph.name, int(stage.budget.get("keep", 2)))


def conditions_of(stage: RunningStage) -> dict[str, str]:
    """Return what a stage must find again to continue: the machine, and settings of speed and rounding."""
    names = {"attention": "attention", "train_engine": "machine.train", "rollout_engine": "machine.rollout"}
    setup = {node.id.partition("/")[2]: node.spec for node in stage.graph.setup}
    made = {what: spec.plain(minimal=False) for name, what in names.items() if (spec := setup[name]) is not None}
    return conditions() | {what: json.dumps(plain, sort_keys=True) for what, plain in made.items()}


def restore(stage: RunningStage) -> bool:
    """Continue from the latest intact checkpoint of this very stage; return whether there was one.

    Raises:
        RecipeError: RC764, threads, torch or device differ from those it was made under.
    """
    name = stage.graph.name
    for folder in stage.folder.checkpoints(name):
        manifest = verify_folder(folder)
        if manifest is None:
            stage.observers.warn(errors.damaged_checkpoint(str(folder)))
            set_aside(folder)  # it must not count as one that is kept
            continue
        if manifest.get("digest") != stage.digest:
            continue
        now = conditions_of(stage)
        for what, was in manifest["conditions"].items():
            if now.get(what) != was and stage.replace:
                stage.folder.begin(name, stage.digest, again=True)
                return False
            if now.get(what) != was:
                raise RecipeError(errors.other_machine(str(stage.folder.stage(name)), what, was, str(now.get(what))))
        state = load_state(folder)
        for name_of_part, part in stage.parts():
            if name_of_part in state["parts"]:
                part.load(state["parts"][name_of_part])
        stage.counters.step, stage.counters.tokens = int(state["step"]), int(state["tokens"])
        stage.metrics_writer.cut(int(state["journal"]))
        prune(stage)  # a killed run may have committed its last one and not come to this
        return True
    stage.metrics_writer.cut(0)
    return False

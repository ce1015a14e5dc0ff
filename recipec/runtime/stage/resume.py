"""Checkpoints of a running stage: committed, pruned, and continued from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import committed, disk_errors, set_aside, verify_folder
from recipec.host.checksums import DIFFERS, damaged
from recipec.runtime.model.state_files import conditions, described, load_state, save_tensors
from recipec.runtime.stage import rollout_log
from recipec.runtime.stage.running_stage import RunningStage

_LOST = "is not what was written before the step that the stage continues from: metrics are lost"
_STEP = re.compile(r"-(\d{6})\.jsonl?$")
_UNFIT = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, AssertionError, RuntimeError, SafetensorError,
)  # fmt: skip
"""What reading a state of another stage raises: each part reads its own, and no schema describes it."""
_LAYOUT = ("machine.train", "ranks")
"""What spreads the work over processes: checkpoints hold whole tensors, so a stage continues under another one."""


def save(stage: RunningStage) -> None:
    """Commit a checkpoint of this step, then prune the older ones."""
    name, ranks = stage.graph.name, stage.context.ranks
    stage.metrics_writer.sync()
    final = stage.folder.stage(name) / "checkpoints" / f"step-{stage.step:06d}"
    if ranks.on_leader(lambda: final.exists() and verify_folder(final) is not None):
        return
    state = {name: part_state for name, part in stage.parts() if (part_state := part.state())}
    about = {"digest": stage.digest, "step": stage.step, "conditions": conditions_of(stage)}
    counters = {"step": stage.step, "tokens": stage.counters.tokens, "samples": stage.counters.samples}
    with ExitStack() as begun:  # the leader's folder, which becomes the checkpoint once all ranks have written theirs
        folder = Path(ranks.on_leader(lambda: str(begun.enter_context(committed(final, about)))))
        parts, tensors = described(state, ranks)
        ranks.all_gather(f"stage {name}: writing a checkpoint", lambda: save_tensors(folder, tensors, ranks))

        def commit() -> None:
            journal = {"journal": stage.metrics_writer.position(), "journal_sha256": stage.metrics_writer.digest()}
            text = json.dumps({"parts": parts, **counters, **journal})
            with disk_errors(final):
                (folder / "state.json").write_text(text)
            begun.close()
            prune(stage)

        ranks.on_leader(commit)


def prune(stage: RunningStage) -> None:
    """Delete the checkpoints that are more than the budget keeps."""
    stage.folder.prune(stage.graph.name, int(stage.budget.get("keep", 2)))


def conditions_of(stage: RunningStage) -> dict[str, str]:
    """Return what a stage must find again to continue: the machine, and settings of speed and rounding."""
    names = {"attention": "attention", "train_engine": "machine.train", "rollout_engine": "machine.rollout"}
    setup = {node.name: node.spec for node in stage.graph.setup}
    settings: dict[str, Any] = {
        what: spec.plain(minimal=False) for name, what in names.items() if (spec := setup[name]) is not None
    }
    settings["ranks"] = {"processes": stage.context.ranks.size}
    return conditions() | {what: json.dumps(plain, sort_keys=True) for what, plain in settings.items()}


def _samples(stage: RunningStage) -> Path:
    return stage.folder.stage(stage.graph.name) / "samples"


def _discard(stage: RunningStage, folder: Path, lost: Path | None) -> None:
    """Set a checkpoint aside, which must not count as one that is kept, with damaged rows, which no step must read."""
    damaged = lost or folder
    stage.observers.warn(errors.damaged_checkpoint(str(damaged)))
    set_aside(damaged)
    set_aside(folder)


def restore(stage: RunningStage) -> bool:
    """Continue from the latest intact checkpoint of this very stage; return whether there was one.

    Raises:
        RecipeError: RC764, threads, torch or device differ from those it was made under; RC789, what it contains is not
            a state of this stage.
    """
    folder = stage.context.ranks.on_leader(lambda: _latest(stage))
    if folder is None:
        stage.metrics_writer.cut(0)
        return False
    with _fitting(folder):
        state = load_state(Path(folder))
        if int(state["step"]) != int(Path(folder).name.removeprefix("step-")):
            raise ValueError(f"it is of step {state['step']}")
        kept = dict(state["parts"])
        if missing := {"policy", "optimizer"} - kept.keys():  # others may have come with a later version
            raise KeyError(*sorted(missing))
        for name_of_part, part in stage.parts():
            if name_of_part in kept:
                part.load(kept[name_of_part])
        stage.counters.step, stage.counters.tokens = int(state["step"]), int(state["tokens"])
        stage.counters.samples.update(state.get("samples", {}))
        journal_is_whole = stage.metrics_writer.cut(int(state["journal"]), state.get("journal_sha256"))
    if not journal_is_whole:
        stage.observers.warn(errors.lost_records(str(stage.metrics_writer.path), _LOST))
    stage.context.ranks.on_leader(lambda: _warn_of_samples(stage))
    stage.context.ranks.on_leader(lambda: prune(stage))  # a killed run may have committed its last one only
    return True


def _warn_of_samples(stage: RunningStage) -> None:
    """Report samples of evaluations and what is kept next to rows, up to the checkpoint; its rows are verified."""
    for name in damaged(_samples(stage)):
        step = _STEP.search(name)
        if name not in stage.counters.samples and step is not None and int(step[1]) <= stage.step:
            stage.observers.warn(errors.lost_records(str(_samples(stage) / name), DIFFERS))


@contextmanager
def _fitting(folder: str | Path) -> Iterator[None]:
    """Refuse a checkpoint that is whole, and cannot be read as a state of the stage.

    Raises:
        RecipeError: RC789.
    """
    try:
        yield
    except KeyError as error:
        raise RecipeError(errors.foreign_checkpoint(str(folder), f"it lacks {error}")) from error
    except _UNFIT as error:
        problem = str(error).partition("\n")[0] or type(error).__name__
        raise RecipeError(errors.foreign_checkpoint(str(folder), problem)) from error


def _latest(stage: RunningStage) -> str | None:
    """Return the latest intact checkpoint of this very stage; damaged ones are set aside."""
    name = stage.graph.name
    for folder in stage.folder.checkpoints(name):
        manifest = verify_folder(folder)
        if manifest is not None and manifest.get("digest") != stage.digest:
            continue
        with _fitting(folder):
            state = {} if manifest is None else load_state(folder)
            lost = folder if manifest is None else rollout_log.damaged(_samples(stage), state.get("samples", {}))
        if manifest is None or lost is not None:
            _discard(stage, folder, lost)
            continue
        now = conditions_of(stage)
        with _fitting(folder):
            then = dict(manifest.get("conditions") or {})
        changed = {what: was for what, was in then.items() if now.get(what) != was}
        unacceptable = [what for what in changed if what not in _LAYOUT]
        if unacceptable and stage.replace:
            stage.folder.begin(name, stage.digest, again=True)
            return None
        home = str(stage.folder.stage(name))
        for what in unacceptable:
            raise RecipeError(errors.other_machine(home, what, changed[what], str(now.get(what))))
        for what, was in changed.items():
            stage.observers.warn(errors.other_layout(home, what, was, str(now.get(what))))
        return str(folder)
    return None

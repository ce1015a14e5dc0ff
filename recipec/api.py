"""Recipes from Python: compile, check, plan, run and evaluate them, and read what a run left.

A recipe is a file, or a :class:`recipec.Recipe` that was built in Python; its paths are then relative to the working
directory. Whatever is wrong with it is a :class:`recipec.RecipeError` with all diagnostics.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors.ranks import callback_elsewhere
from recipec.diagnostics.errors.run import unreadable_run
from recipec.diagnostics.model import PYTHON, RecipeError
from recipec.diagnostics.phrases import listed
from recipec.graph import Graph
from recipec.host.artifacts import RunFolder
from recipec.host.jsonl import read_lines
from recipec.host.progress import Progress
from recipec.host.ranks import place
from recipec.planning.plan import Plan
from recipec.report.results import Results, results
from recipec.run.check import Checked, check_all
from recipec.run.evaluate import evaluate_model, evaluate_run
from recipec.run.executor import run as execute
from recipec.run.export import export, stages_of
from recipec.run.launching import Prepared, RunArguments, compiled, prepare, started
from recipec.run.run_plan import plan_run
from recipec.run.sweep import Sweep, run_sweep
from recipec.spec.recipe import Recipe
from recipec.yaml_io import to_yaml

RecipeLike = Recipe | str | os.PathLike[str]
OnStep = Callable[[str, int, int, Mapping[str, float]], None]
"""Called after each step with the stage, the number of the step, the number of all steps, and its metrics."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory.

    Example: ``load_run("runs/quickstart").results().points[-1].values``.
    """

    folder: Path

    @property
    def stages(self) -> list[str]:
        """Names of the stages, in order."""
        return stages_of(self.folder)

    @property
    def model(self) -> Path:
        """Folder of the last stage's policy, for ``from_pretrained``; it exists once the run has ended."""
        return self.folder / "model"

    def results(self, *, every: bool = False) -> Results:
        """Return the held-out results before training and after each stage, or of ``every`` evaluation.

        Without `evaluate` in the recipe there are none: ``columns`` and ``points`` are empty.
        """
        return results(self.folder, self.stages, every=every) or Results((), ())

    def metrics(self, stage: str) -> list[dict[str, Any]]:
        """Return the metrics of a stage, one mapping a step.

        Raises:
            KeyError: the run has no such stage.
        """
        return read_lines(self._stage(stage) / "metrics.jsonl")

    def samples(self, stage: str, step: int) -> list[dict[str, Any]]:
        """Return the rows of a step of an ``rl`` stage, the first step being 1; none of a step that was not made.

        Raises:
            KeyError: the run has no such stage.
        """
        return read_lines(self._stage(stage) / "samples" / f"step-{step:06d}.jsonl")

    def _stage(self, name: str) -> Path:
        if name not in self.stages:
            raise KeyError(f"{self.folder} has no stage `{name}`, but {listed(self.stages)}")
        return RunFolder(self.folder).stage(name)

    def export(self, to: str | os.PathLike[str], *, stage: str | None = None, merge: bool = False) -> Path:
        """Write the trained model into a new folder; see ``recipec export``."""
        return export(self.folder, Path(to), stage, merge=merge)


class _Steps(Progress):
    """Calls a function after each step in place of printing it."""

    def __init__(self, on_step: OnStep | None, *, quiet: bool) -> None:
        super().__init__(quiet=quiet)
        self.on_step = on_step

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Report a step."""
        super().step(stage, step, total, metrics)
        if self.on_step is not None:
            self.on_step(stage, step, total, metrics)


def prepared(
    recipe: RecipeLike,
    overrides: Sequence[str],
    out: str | os.PathLike[str] | None = None,
    use: Sequence[str | os.PathLike[str]] = (),
    *,
    replace: bool = False,
    quiet: bool = True,
) -> tuple[Prepared, RunArguments]:
    """Compile and plan a recipe; return it ready to run, and the arguments of the run."""
    name, text = source(recipe)
    folder = None if out is None else Path(out)
    arguments = RunArguments(name, tuple(overrides), folder, tuple(map(Path, use)), replace, quiet, text)
    return prepare(arguments), arguments


def source(recipe: RecipeLike) -> tuple[Path, str | None]:
    """Return the file of a recipe, or what diagnostics call one that was built in Python, and its YAML text."""
    return (Path(PYTHON), to_yaml(recipe)) if isinstance(recipe, Recipe) else (Path(recipe), None)


def compile(recipe: RecipeLike, overrides: Sequence[str] = ()) -> Graph:  # noqa: A001 - `recipec.compile`
    """Compile a recipe to its graph; ``overrides`` are those of ``--set``, such as ``seed=1``."""
    name, text = source(recipe)
    return compiled(name, tuple(overrides), text)[1]


def plan(recipe: RecipeLike, overrides: Sequence[str] = (), *, out: str | os.PathLike[str] | None = None) -> Plan:
    """Say which stages would run in the directory ``out``, and what they cost."""
    name, text = source(recipe)
    result, graph = compiled(name, tuple(overrides), text)
    return plan_run(result, Path(out) if out is not None else Path("runs") / graph.name)


def check(
    recipe: RecipeLike,
    overrides: Sequence[str] = (),
    *,
    out: str | os.PathLike[str] | None = None,
    use: Sequence[str | os.PathLike[str]] = (),
) -> Checked:
    """Check what a run checks before its first stage; problems are in the result."""
    ready, _ = prepared(recipe, overrides, out, use)
    return check_all(ready.graph, ready.planned, ready.options)


def run(
    recipe: RecipeLike,
    overrides: Sequence[str] = (),
    *,
    out: str | os.PathLike[str] | None = None,
    use: Sequence[str | os.PathLike[str]] = (),
    replace: bool = False,
    quiet: bool = True,
    on_step: OnStep | None = None,
) -> Run:
    """Run a recipe, or continue an interrupted run; from any thread, one run a process at a time.

    ``on_step`` may raise, to end the run early: it continues from its last checkpoint. A recipe for several devices
    runs in processes that are started for it, as by the command; under ``torchrun`` each process calls this function.

    Raises:
        RecipeError: why it cannot start or go on; what was completed is kept. RC980, ``on_step`` is in this process,
            and the steps are in others.
    """
    ready, arguments = prepared(recipe, overrides, out, use, replace=replace, quiet=quiet)
    if place().size == 1 and ready.devices > 1:
        if on_step is not None:
            raise RecipeError(callback_elsewhere(ready.devices))
        outcome = started(arguments)
    else:
        outcome = execute(ready.graph, ready.options, _Steps(on_step, quiet=quiet))
    errors = [one for one in outcome.diagnostics if one.is_error]
    if errors:
        raise RecipeError(*errors)
    return Run(ready.options.out)


def sweep(
    recipe: RecipeLike,
    each: Mapping[str, Sequence[Any]],
    overrides: Sequence[str] = (),
    *,
    out: str | os.PathLike[str] | None = None,
    use: Sequence[str | os.PathLike[str]] = (),
    replace: bool = False,
    quiet: bool = True,
) -> Sweep:
    """Run every combination of values, such as ``{"seed": [0, 1, 2]}``, each in a process of its own.

    One that fails does not stop the others; ``failed`` of the result says why. Those that have finished are skipped.

    Raises:
        RecipeError: what is wrong with the recipe for some of the values, before the first run.
    """
    name, text = source(recipe)
    folder = None if out is None else Path(out)
    arguments = RunArguments(name, tuple(overrides), None, tuple(map(Path, use)), replace, quiet, text)
    axes = [
        f"{key}={','.join(value if isinstance(value, str) else json.dumps(value) for value in values)}"
        for key, values in each.items()
    ]
    return run_sweep(arguments, axes, folder, Progress(quiet=quiet).say)


def evaluate(
    recipe: RecipeLike,
    overrides: Sequence[str] = (),
    *,
    model: str | None = None,
    out: str | os.PathLike[str] | None = None,
    use: Sequence[str | os.PathLike[str]] = (),
) -> dict[str, float]:
    """Return the held-out metrics of a model, or of the last stage of the run in ``out``.

    Evaluations that the run lacks are made and added to it.
    """
    ready, _ = prepared(recipe, overrides, out, use)
    if model is not None:
        return evaluate_model(ready.graph, ready.options, Progress(quiet=True), model)
    table = evaluate_run(ready.graph, ready.options, Progress(quiet=True))
    return dict(table.points[-1].values) if table is not None else {}


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Return the run of a directory.

    Raises:
        RecipeError: RC772, the directory is not that of a run.
    """
    loaded = Run(Path(folder))
    if not loaded.folder.is_dir():
        near = {path.parent for place in (loaded.folder.parent, Path("runs")) for path in place.glob("*/run.json")}
        raise RecipeError(unreadable_run(str(folder), FileNotFoundError(), sorted(map(str, near))))
    stages_of(loaded.folder)
    return loaded

"""Evaluations added afterwards: of the finished stages of a run, into its table, or of any model."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from recipec.diagnostics.errors import export as errors
from recipec.diagnostics.errors.model import no_model
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph
from recipec.host import journal
from recipec.host.artifacts import RunFolder, write_atomic
from recipec.host.jsonl import read_lines
from recipec.host.options import Options
from recipec.host.packages import runtime_packages
from recipec.host.progress import Progress
from recipec.report import page, results
from recipec.spec.recipe import weights_kind


def evaluate_run(graph: Graph, options: Options, display: Progress, *, again: bool = False) -> results.Results | None:
    """Make the evaluations that finished stages of a run lack, all of them with ``again``, and return the table.

    Raises:
        RecipeError: RC762 the run is in use, RC936 no stage is finished, and what an evaluation is refused for.
    """
    folder = RunFolder(options.out.absolute())
    with folder.locked():
        done = [stage for stage in graph.stages if (folder.stage(stage.name) / "policy").exists()]
        if not done:
            raise RecipeError(errors.no_policy(str(options.out), graph.stages[-1].name, ()))
        for stage in done:
            existing = results.evaluated(folder.path, stage.name)
            wanted = {name: [f"{name}/{metric}" for metric in one["metrics"]] for name, one in graph.evaluate.items()}
            names = [name for name, metrics in wanted.items() if again or not existing.issuperset(metrics)]
            if not names:
                continue
            display.say(f"{stage.name}: evaluating {', '.join(names)}")
            step = _last_step(folder.stage(stage.name))
            with runtime_packages():
                from recipec.runtime.stage.evaluate_policy import evaluate  # noqa: PLC0415 - torch comes in here
            weights = str((folder.stage(stage.name) / "policy").absolute())
            values = evaluate(graph, stage, folder, options, names, display, weights=weights, step=step)
            _add(folder.stage(stage.name) / journal.METRICS, stage.name, step, values)
        table = results.write(folder.path, [stage.name for stage in graph.stages])
        page.write(folder.path)
    return table


def evaluate_model(graph: Graph, options: Options, display: Progress, model: str) -> dict[str, float]:
    """Return every evaluation of a recipe for a model: a folder, ``org/name`` or ``package:…``; nothing is kept.

    Raises:
        RecipeError: what the model or an evaluation is refused for.
    """
    if weights_kind(model) == "directory" and not Path(model).is_dir():
        raise RecipeError(no_model(model))
    with TemporaryDirectory() as home, runtime_packages():
        from recipec.runtime.stage.evaluate_policy import evaluate  # noqa: PLC0415 - torch comes in here

        place = str(Path(model).absolute()) if Path(model).is_dir() else model
        folder, names = RunFolder(Path(home)), list(graph.evaluate)
        return evaluate(graph, graph.stages[-1], folder, options, names, display, weights=place)


def _last_step(home: Path) -> int:
    """Return the step after which a stage was finished: that of its manifest, or of the last line of its metrics."""
    known, rows = journal.written(home), read_lines(home / journal.METRICS)
    return int(known["step"] if known else rows[-1]["step"] if rows else 0)


def _add(path: Path, stage: str, step: int, held_out: dict[str, float]) -> None:
    """Add held-out metrics to the line of the last step."""
    rows = read_lines(path)
    if not rows or rows[-1].get("step") != step:  # its last lines are lost
        rows.append({"stage": stage, "step": step})
    rows[-1] |= {f"eval/{name}": value for name, value in held_out.items()}
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))


def table(metrics: dict[str, float]) -> str:
    """Write metrics for a terminal, one a line.

    >>> print(table({"dev/accuracy": 0.5}))
    dev/accuracy  0.500
    """
    width = max(map(len, metrics), default=0)
    return "\n".join(f"{name:<{width}}  {value:.3f}" for name, value in metrics.items())

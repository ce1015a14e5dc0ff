"""One page that compares runs: settings that differ, held-out results and cost, curves over steps, tokens and time."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import quote

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import RESOLVED, write_atomic
from recipec.host.small_files import read_small
from recipec.report import intervals
from recipec.report.chart import chart, is_drawn, short
from recipec.report.meanings import meaning
from recipec.report.rendering import rendered
from recipec.report.resolved_values import resolved_values
from recipec.report.results import results
from recipec.report.seed_intervals import over_seeds
from recipec.report.summary import Change, task_scores, training_rows

MAIN = ("reward", "rewards/margins", "loss", "kl", "entropy", "grad_norm", "completions/mean_length")
"""Metrics that are drawn, besides held-out ones."""
AXES = {"steps": "step", "tokens": "tokens", "time": "seconds"}


def write(folders: Sequence[Path], page: Path) -> Path:
    """Write a page that compares run directories, and return its path.

    Raises:
        RecipeError: RC772, a directory is not that of a run.
    """
    runs = [_read(folder) for folder in folders]
    if len({run["name"] for run in runs}) < len(runs):
        runs = [{**run, "name": str(run["folder"])} for run in runs]
    names = [run["name"] for run in runs]
    stages = dict.fromkeys(stage for run in runs for stage in run["stages"])
    columns = list(dict.fromkeys(column for run in runs for column in run["last"]))
    context = {
        "names": list(enumerate(names)),
        "settings": settings(runs),
        "table": final(runs, page.parent),
        "seeds": [
            (name, next(iter(means.values())).count, [means[c].text() if c in means else "" for c in columns])
            for name, means in over_seeds(runs)
        ],
        "columns": [(column, meaning(column)) for column in columns],
        "costs": [("seconds", "sum of seconds/step of all stages"), ("tokens", "sum of num_tokens of all stages")],
        "axes": list(AXES),
        "stages": [{"name": stage, "axes": axes(runs, stage)} for stage in stages],
    }
    write_atomic(page, rendered("compare.html.j2", ("charts.js",), context))
    return page


def runs_in(folder: Path) -> list[Path]:
    """Return the run directories in the folder of a sweep; any other folder is taken to be a run directory itself.

    >>> runs_in(Path("nowhere"))
    [PosixPath('nowhere')]
    """
    found = sorted(path.parent for path in folder.glob("*/run.json"))
    return [folder] if (folder / "run.json").exists() or not found else found


def _read(folder: Path) -> dict[str, Any]:
    try:
        graph = json.loads(read_small(folder / "graph.json"))
        about = json.loads(read_small(folder / "run.json"))
    except (OSError, ValueError) as error:
        raise RecipeError(errors.unreadable_run(str(folder), error)) from error
    stages = [stage["name"] for stage in graph["stages"]]
    resolved = folder / RESOLVED
    values = {"seed": str(about["seed"])}
    values |= resolved_values(read_small(resolved)) if resolved.exists() else {}
    table = results(folder, stages)
    last = {name: value for moment in (table.points if table else ()) for name, value in moment.values.items()}
    return {
        "name": folder.name,
        "folder": folder,
        "stages": stages,
        "values": values,
        "results": table,
        "evaluate": graph.get("evaluate") or {},
        "last": last,
    }


def text(folders: Sequence[Path]) -> str:
    """Write the last held-out results of runs for a terminal, and their means over seeds with 95% intervals."""
    runs = [_read(folder) for folder in folders]
    columns = list(dict.fromkeys(column for run in runs for column in run["last"]))
    rows = [(run["name"], [f"{run['last'][c]:.3f}" if c in run["last"] else "" for c in columns]) for run in runs]
    for name, means in over_seeds(runs):
        count = next(iter(means.values())).count
        rows.append((f"{name} ({count} seeds)", [means[c].text() if c in means else "" for c in columns]))
    table = [["", *columns], *([name, *cells] for name, cells in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) if columns else ""


def settings(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the keys with values that differ, and the value of each run."""
    keys = dict.fromkeys(key for run in runs for key in run["values"])
    rows = [(key, [run["values"].get(key, "") for run in runs]) for key in keys]
    return [(key, values) for key, values in rows if len(set(values)) > 1]


def final(runs: Sequence[Mapping[str, Any]], home: Path) -> list[dict[str, Any]]:
    """Lay out a row for each run: its report, what its steps took, and each held-out metric at the end.

    A metric has its 95% interval over tasks, and the difference to the first run. Its interval pairs the answers to
    the same task; both only where they can be computed, and the difference only of the same evaluation.
    """
    columns = dict.fromkeys(column for run in runs for column in run["last"])
    rows = []
    for number, run in enumerate(runs):
        stages = [list(training_rows(run["folder"] / "stages" / stage)) for stage in run["stages"]]
        seconds = sum(_number(row, "seconds/step") for steps in stages for row in steps)
        costs = (seconds, sum(_number(steps[-1], "num_tokens") for steps in stages if steps))
        rows.append(
            {
                "number": number,
                "name": run["name"],
                "link": quote(Path(os.path.relpath(run["folder"] / "report.html", home)).as_posix()),
                "costs": [{"value": f"{cost:.0f}", "text": short(cost)} for cost in costs],
                "cells": [_cell(run, runs[0], column) for column in columns],
            }
        )
    return rows


def _number(row: Mapping[str, Any], name: str) -> float:
    return float(row[name]) if is_drawn(row.get(name)) else 0.0


def _cell(run: Mapping[str, Any], first: Mapping[str, Any], column: str) -> dict[str, str]:
    """Write the last value of a metric of a run with its interval, and its difference to the first run."""
    if column not in run["last"]:
        return {"value": "", "text": "", "interval": "", "difference": ""}
    value, (name, _, metric) = run["last"][column], column.partition("/")
    tasks = _tasks(run, column)
    ends = (intervals.rate if metric == "accuracy" else intervals.mean)(list(tasks.values()))
    n = intervals.digits(ends)
    cell = {"value": repr(value), "text": f"{value:.{n}f}", "interval": "", "difference": ""}
    if ends:
        cell["interval"] = f"({ends[0]:.{n}f} to {ends[1]:.{n}f})"
    if run is first or column not in first["last"] or run["evaluate"].get(name) != first["evaluate"].get(name):
        return cell
    others = _tasks(first, column)
    pairs = [tasks[task] - others[task] for task in tasks if task in others]
    low, high = intervals.change(pairs, rates=metric == "accuracy") or (None, None)
    change = Change(column, first["last"][column], value, low, high)
    cell["difference"] = change.difference() + (", may be equal" if change.may_be_none else "")
    return cell


def _tasks(run: Mapping[str, Any], column: str) -> dict[int, float]:
    moment = [moment for moment in run["results"].points if column in moment.values][-1]
    evaluation = run["evaluate"].get(column.partition("/")[0], {})
    return task_scores(run["folder"], moment, column, float(evaluation.get("correct_at", 1.0)))


def axes(runs: Sequence[Mapping[str, Any]], stage: str) -> list[dict[str, Any]]:
    """Draw the main metrics of a stage over steps, tokens and time, one line a run."""
    rows = {run["name"]: list(training_rows(run["folder"] / "stages" / stage)) for run in runs}
    names = dict.fromkeys(name for lines in rows.values() for row in lines for name in row if name.startswith("eval/"))
    axis_names = []
    for axis, unit in AXES.items():
        charts = []
        for metric in (*names, *MAIN):
            series = {run: points for run, lines in rows.items() if (points := _points(lines, metric, axis))}
            if any(len(points) > 1 for points in series.values()):
                numbered = chart(metric, series, unit)
                for line in numbered["lines"]:
                    line["number"] = list(rows).index(line["name"])
                charts.append({**numbered, "meaning": meaning(metric)})
        axis_names.append({"name": axis, "charts": charts})
    return axis_names


def _points(rows: Sequence[Mapping[str, Any]], metric: str, axis: str) -> list[tuple[float, float]]:
    seconds = list(accumulate(float(row.get("seconds/step") or 0.0) for row in rows))
    places = {
        "steps": [row["step"] for row in rows],
        "tokens": [row.get("num_tokens") for row in rows],
        "time": seconds,
    }
    pairs = zip(places[axis], rows, strict=True)
    return [(x, row[metric]) for x, row in pairs if x is not None and is_drawn(row.get(metric))]

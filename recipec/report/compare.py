"""One page that compares runs: settings that differ, held-out results, curves over steps, tokens and time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import RESOLVED, write_atomic
from recipec.host.jsonl import read_lines
from recipec.host.small_files import read_small
from recipec.host.templates import render_own
from recipec.package_files import shipped
from recipec.report import intervals
from recipec.report.resolved_values import resolved_values
from recipec.report.results import results
from recipec.report.seed_intervals import over_seeds
from recipec.report.summary import chart, scores, training_rows

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
        "table": final(runs),
        "seeds": [
            (name, next(iter(means.values())).count, [means[c].text() if c in means else "" for c in columns])
            for name, means in over_seeds(runs)
        ],
        "columns": columns,
        "stages": [{"name": stage, "axes": axes(runs, stage)} for stage in stages],
    }
    template = (shipped("templates") / "report" / "compare.html.j2").read_text(encoding="utf-8")
    write_atomic(page, render_own(template, context, html=True))
    return page


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
        "correct_at": {name: float(one.get("correct_at", 1.0)) for name, one in (graph.get("evaluate") or {}).items()},
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


def final(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the last value of each held-out metric of each run, with its 95% interval over tasks if it is known."""
    columns = dict.fromkeys(c for run in runs if run["results"] is not None for c in run["results"].columns)
    return [(column, [_last(run, column) for run in runs]) for column in columns]


def _last(run: Mapping[str, Any], column: str) -> str:
    having = [moment for moment in run["results"].points if column in moment.values] if run["results"] else []
    if not having:
        return ""
    moment, (name, _, metric) = having[-1], column.partition("/")
    text = f"{moment.values[column]:.3f}"
    if metric not in {"accuracy", "reward"}:
        return text
    path = run["folder"] / "stages" / moment.stage / "samples" / f"eval-{name}-{moment.step:06d}.jsonl"
    values = list(scores(read_lines(path), metric, run["correct_at"].get(name, 1.0)).values())
    ends = intervals.rate(values) if metric == "accuracy" else intervals.mean(values)
    return f"{text} ({ends[0]:.3f} to {ends[1]:.3f})" if ends else text


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
                charts.append(numbered)
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
    return [(x, row[metric]) for x, row in pairs if x is not None and isinstance(row.get(metric), int | float)]

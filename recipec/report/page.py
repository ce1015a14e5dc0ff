"""One self-contained HTML page about a run: held-out results, curves, samples, the recipe. No torch, no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host import journal
from recipec.host.artifacts import RESOLVED, write_atomic
from recipec.host.jsonl import read_lines
from recipec.host.small_files import read_small
from recipec.report.intervals import is_rate
from recipec.report.meanings import meaning
from recipec.report.rendering import embedded, rendered
from recipec.report.results import EvaluationPoint, Results, results
from recipec.report.samples import browsable, pictures, text_of, thumbnail
from recipec.report.scaling_law import laws
from recipec.report.summary import change_between, curves, duration, headline, metric_changes, training_rows, unfinished

_SAMPLES = 6
_PAIRS = 4
_CLAIMS = 8
_TEXT = 2000
_PICTURES = 4


def write(folder: Path, *, live: bool = False) -> Path:
    """Write ``report.html`` of a run directory and return its path; a ``live`` page loads itself again every minute.

    Raises:
        RecipeError: RC772, the directory is not that of a run.
    """
    try:
        about = json.loads(read_small(folder / "run.json"))
        graph = json.loads(read_small(folder / "graph.json"))
        return _page(folder, about, graph, live=live)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise RecipeError(errors.unreadable_run(str(folder), error)) from error


def _page(folder: Path, about: dict[str, Any], graph: dict[str, Any], *, live: bool) -> Path:
    stages = [stage_view(folder / "stages" / s["name"], s["name"], s["kind"]) for s in graph["stages"]]
    names = [stage["name"] for stage in stages]
    over_stages, every = results(folder, names), results(folder, names, every=True)
    recipe = next((path for name in (RESOLVED, "recipe.yaml") if (path := folder / name).exists()), None)
    browsed = browsable(folder, names)
    context = {
        "name": about["name"],
        "seed": about["seed"],
        "versions": about["versions"],
        "device": about.get("device") or graph["machine"].get("device"),
        "headline": headline(
            metric_changes(folder, graph, over_stages), over_stages, stages, planned=bool(graph.get("evaluate"))
        ),
        "unfinished": None if live else unfinished(stages),
        "smooth": any(
            line["smooth"] for one in stages for g in one["groups"] for c in g["charts"] for line in c["lines"]
        ),
        "stages": stages,
        "laws": laws(folder, graph, every),
        "table": held_out(over_stages, folder, graph.get("evaluate") or {}),
        "moments": held_out(every) if every and over_stages and len(every.points) > len(over_stages.points) else None,
        "recipe": "" if recipe is None else read_small(recipe),
        "data": embedded(browsed),
        "pictures": embedded(pictures(folder, browsed)),
        "live": datetime.now(UTC).isoformat(timespec="seconds") if live else "",
    }
    path = folder / "report.html"
    write_atomic(path, rendered("run.html.j2", ("charts.js", "browse.js"), context))
    return path


def problems(folder: Path) -> Iterator[Diagnostic]:
    """Yield what the report of a run directory shows and is not what its stages wrote: RC879."""
    for home in sorted(path for path in (folder / "stages").glob("*") if path.is_dir()):
        for name, problem in journal.damage(home):
            yield errors.lost_records(str(home / name), problem)


def stage_view(folder: Path, name: str, kind: str) -> dict[str, Any]:
    """Collect the values of a stage for the page."""
    training = list(training_rows(folder))
    return {
        "name": name,
        "kind": kind,
        "finished": (folder / "policy").exists(),
        "steps": training[-1]["step"] if training else 0,
        "duration": duration(training),
        "groups": curves(training),
        "problems": [f"{name} {problem}" for name, problem in journal.damage(folder)],
        "attention": next(iter(read_lines(folder / "attention.json")), None),
        "samples": samples(folder / "samples"),
        "pairs": made_pairs(folder / "pairs"),
    }


def held_out(
    table: Results | None, folder: Path | None = None, evaluate: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Lay out a table of held-out results: a row a moment, a column a metric, each value with its change.

    With the ``folder`` of the run, changes have intervals where the answers to each task are known.
    """
    if table is None:
        return None
    rows: list[dict[str, Any]] = []
    before: dict[str, EvaluationPoint] = {}
    for moment in table.points:
        numbers = []
        for column, (value, text) in zip(table.columns, table.cells(moment), strict=True):
            cell = {"value": value, "change": text, "kind": _kind(column, text)}
            if text and folder is not None and evaluate is not None:
                change = change_between(folder, evaluate, (before[column], moment), column)
                cell |= {"change": change.difference(), **({"kind": ""} if change.may_be_none else {})}
            numbers.append(cell)
        before |= dict.fromkeys(moment.values, moment)
        rows.append({"when": moment.when, "numbers": numbers})
    return {"columns": [(name, meaning(name)) for name in table.columns], "rows": rows}


def _kind(column: str, change: str) -> str:
    """Say whether a change is for the better or the worse; neither for counts and losses, and for a change of zero.

    >>> _kind("dev/accuracy", "+0.100"), _kind("dev/claims/contradicted", "+0.100"), _kind("dev/reward", "±0.000")
    ('more', '', '')
    """
    good = is_rate(column) or column.partition("/")[2].startswith(("reward", "consistency", "margin_share"))
    return "" if not good or change.startswith("±") else "less" if change.startswith("-") else "more"


def samples(folder: Path) -> list[dict[str, Any]]:
    """Pick rows of the last step: the best, the worst, and some between."""
    files = sorted(folder.glob("step-*.jsonl")) or sorted(folder.glob("eval-*.jsonl"))
    rows = [row for row in read_lines(files[-1]) if row] if files else []
    rows.sort(key=lambda row: -(row.get("reward") or 0.0))
    count = min(_SAMPLES, len(rows))
    number = files[-1].stem.rpartition("-")[2] if files else ""
    chosen = [rows[round(i * (len(rows) - 1) / max(1, count - 1))] for i in range(count)]
    return [
        {
            "step": row.get("step", int(number) if number.isdigit() else 0),
            "reward": None if row.get("reward") is None else round(row["reward"], 4),
            "prompt": text_of(row.get("prompt"))[:_TEXT],
            "pictures": list(named_pictures(folder / "images", row)),
            "text": str(row.get("transcript") or row.get("text", ""))[:_TEXT],
            "error": row.get("error"),
        }
        for row in chosen
    ]


def named_pictures(folder: Path, row: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Embed the thumbnails of the first images of a row; files that are not small JPEGs are left out."""
    recorded = row.get("images")
    for image in recorded[:_PICTURES] if isinstance(recorded, list) else ():
        data = thumbnail(folder, str(image.get("digest"))) if isinstance(image, dict) else None
        if data is not None:
            yield {"name": str(image.get("path"))[:_TEXT], "data": data}


def made_pairs(folder: Path) -> dict[str, Any] | None:
    """Collect the number of pairs of a stage, those left out, and examples with evidence; None without pairs."""
    try:
        summary = json.loads(read_small(folder / "summary.json"))
    except (OSError, ValueError):
        return None
    rows = read_lines(folder / "pairs.jsonl")
    stride = max(1, len(rows) // _PAIRS)
    return {
        "count": summary.get("pairs", len(rows)),
        "left_out": [(reason.replace("_", " "), count) for reason, count in summary.get("left_out", {}).items()],
        "shown": [_pair(row) for row in rows[::stride][:_PAIRS]],
    }


def _pair(row: Mapping[str, Any]) -> dict[str, Any]:
    evidence = row.get("evidence") or {}
    return {
        "prompt": text_of(row.get("prompt"))[:_TEXT],
        "rule": evidence.get("rule", ""),
        "margin": evidence.get("margin"),
        "about": [str(entity)[:_TEXT] for entity in evidence.get("about", ())],
        "facts": [str(fact)[:_TEXT] for fact in evidence.get("facts", ())[:_CLAIMS]],
        "sides": [
            _side(side, text_of(row.get(side))[:_TEXT], evidence.get(side) or {}) for side in ("chosen", "rejected")
        ],
    }


def _side(name: str, text: str, judged: Mapping[str, Any]) -> dict[str, Any]:
    claims = [claim for claim in judged.get("claims", ())[:_CLAIMS] if isinstance(claim, dict)]
    return {
        "name": name,
        "text": text,
        "score": judged.get("score", judged.get("reward")),
        "claims": [(str(claim.get("verdict", "")), str(claim.get("says", ""))[:_TEXT]) for claim in claims],
    }

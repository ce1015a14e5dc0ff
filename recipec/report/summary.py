"""Numbers of the report: what improved with a confidence interval, curves in groups, how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipec.host.jsonl import read_lines
from recipec.report import intervals
from recipec.report.results import Results

WIDTH, HEIGHT, MARGIN, POINTS = 320, 140, 20, 400
GROUPS = {
    "Evaluation": ("eval/",),
    "Reward": ("reward", "rewards/", "frac_reward_zero_std", "groups/", "preference"),
    "Policy": ("loss", "kl", "entropy", "grad_norm", "approx_kl", "clip_ratio/", "logps/", "learning_rate", "ratio"),
    "Lengths and turns": ("completions/", "episodes/", "turns/", "tools/", "tree/", "num_tokens"),
    "Speed": ("seconds/", "rate/"),
}
"""Groups of curves, and what the names of their metrics begin with; the rest is under ``Other``."""
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What a held-out metric was before training and is after the last stage.

    Example: ``Change("dev/accuracy", 0.25, 0.5, 0.1, 0.4, 200)``.
    """

    name: str
    before: float
    after: float
    low: float | None = None
    """Ends of the 95% interval of the change, where it can be computed from the answers."""
    high: float | None = None
    tasks: int = 0

    def text(self) -> str:
        """Write the change as one sentence.

        >>> Change("dev/accuracy", 0.25, 0.5, 0.1, 0.4, 200).text()
        'dev/accuracy: 0.250 → 0.500 (+0.250, 95% interval +0.100 to +0.400, 200 tasks)'
        """
        interval = ""
        if self.low is not None and self.high is not None:
            interval = f", 95% interval {self.low:+.3f} to {self.high:+.3f}, {self.tasks} tasks"
        return f"{self.name}: {self.before:.3f} → {self.after:.3f} ({self.after - self.before:+.3f}{interval})"


def metric_changes(folder: Path, graph: Mapping[str, Any], results: Results | None) -> list[Change]:
    """Compare the first and the last held-out results; the confidence interval pairs the answers to the same task."""
    if results is None or len(results.points) < 2:
        return []
    first, last = results.points[0], results.points[-1]
    changes = []
    for column in results.columns:
        if column not in first.values or column not in last.values:
            continue
        name, _, metric = column.partition("/")
        evaluation = (graph.get("evaluate") or {}).get(name, {})
        if metric not in evaluation.get("metrics", (metric,)):
            continue
        correct = float(evaluation.get("correct_at", 1.0))
        files = (folder / "stages" / m.stage / "samples" / f"eval-{name}-{m.step:06d}.jsonl" for m in (first, last))
        before, after = (scores(read_lines(path), metric, correct) for path in files)
        differences = [after[task] - before[task] for task in after if task in before]
        ends = intervals.change(differences, rates=metric == "accuracy") if metric in {"accuracy", "reward"} else None
        low, high = ends or (None, None)
        changes.append(Change(column, first.values[column], last.values[column], low, high, len(differences)))
    return changes


def scores(rows: Sequence[Row], metric: str, correct: float) -> dict[int, float]:
    """Average the reward, or the share of right answers, over the episodes of each task."""
    episodes: dict[tuple[int, Any], float] = {}
    for number, row in enumerate(rows):
        key = (int(row.get("prompt_id", number)), row.get("episode_id", number))
        episodes[key] = episodes.get(key, 0.0) + float(row.get("reward") or 0.0)
    by_task: dict[int, list[float]] = {}
    for (task, _), reward in episodes.items():
        by_task.setdefault(task, []).append(float(reward >= correct) if metric == "accuracy" else reward)
    return {task: sum(values) / len(values) for task, values in by_task.items()}


def curves(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Lay out the curves of a stage in groups; metrics that never change are listed with their value."""
    names = dict.fromkeys(n for row in rows for n in row if n != "step" and isinstance(row[n], int | float))
    groups: dict[str, dict[str, Any]] = {}
    for name in sorted(names, key=_order):
        points = [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]
        group = groups.setdefault(_group(name), {"name": _group(name), "charts": [], "flat": []})
        if len({value for _, value in points}) == 1:
            group["flat"].append(f"{name} {points[0][1]:.4g}")
        else:
            group["charts"].append(chart(name, {"": points}))
    return sorted(groups.values(), key=lambda group: [*GROUPS, "Other"].index(group["name"]))


def _group(name: str) -> str:
    return next((group for group, begins in GROUPS.items() if name.startswith(begins)), "Other")


def _order(name: str) -> tuple[int, str]:
    begins = [begin for group in GROUPS.values() for begin in group]
    return next((i for i, begin in enumerate(begins) if name.startswith(begin)), len(begins)), name


def chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], unit: str = "step") -> dict[str, Any]:
    """Lay out the curves of one metric, one for each name; more than 400 points are thinned evenly."""
    points = [point for line in series.values() for point in line]
    low, high = min(v for _, v in points), max(v for _, v in points)
    first, last = min(x for x, _ in points), max(x for x, _ in points)

    def to_svg(x: float, value: float) -> str:
        right = MARGIN + (x - first) / ((last - first) or 1) * (WIDTH - 2 * MARGIN)
        return f"{right:.1f},{HEIGHT - MARGIN - (value - low) / ((high - low) or 1) * (HEIGHT - 2 * MARGIN):.1f}"

    return {
        "title": title,
        "lines": [
            {"name": name, "number": number, "points": " ".join(to_svg(*point) for point in thinned(line))}
            for number, (name, line) in enumerate(series.items())
        ],
        "low": f"{low:.4g}",
        "high": f"{high:.4g}",
        "first": f"{points[0][1]:.4g}",
        "last": f"{points[-1][1]:.4g}",
        "end": f"{unit} {last:g}",
    }


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keep at most 400 points, the last one among them."""
    stride = -(-len(points) // POINTS)
    return [*points[:-1:stride], points[-1]]


def duration(rows: Sequence[Row]) -> str:
    """Write how long the steps of a stage took.

    >>> duration([{"seconds/step": 90.0}, {"seconds/step": 40.0}])
    '2 min 10 s'
    """
    seconds = round(sum(float(row.get("seconds/step") or 0.0) for row in rows))
    parts = [(seconds // 3600, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


def training_rows(folder: Path) -> Iterator[Row]:
    """Yield the metrics of the steps of a stage."""
    return (row for row in read_lines(folder / "metrics.jsonl") if isinstance(row.get("step"), int) and row["step"])

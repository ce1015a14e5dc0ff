"""Numbers of the report: what improved with a confidence interval, curves in groups, how long it took."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipec.host.jsonl import read_lines
from recipec.report import intervals
from recipec.report.chart import chart, is_drawn, short
from recipec.report.meanings import meaning
from recipec.report.results import EvaluationPoint, Results

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
    peak: str = ""
    """A moment with a higher value, beyond the interval of the difference, and the value."""

    @property
    def interval(self) -> intervals.Ends | None:
        """The 95% interval, where it is known."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def may_be_none(self) -> bool:
        """Whether the interval contains 0."""
        return self.interval is not None and self.interval[0] <= 0 <= self.interval[1]

    def difference(self) -> str:
        """Write the difference and its interval, with the digits that the interval supports.

        >>> Change("dev/accuracy", 0.25, 0.5, 0.1, 0.4, 200).difference()
        '+0.25 (+0.10 to +0.40)'
        """
        n = intervals.digits(self.interval)
        ends = f" ({self.interval[0]:+.{n}f} to {self.interval[1]:+.{n}f})" if self.interval else ""
        return f"{self.after - self.before:+.{n}f}{ends}"

    def text(self) -> str:
        """Write the change as one sentence, with the digits that its interval supports, and what it shows.

        >>> Change("dev/accuracy", 0.25, 0.5, 0.1, 0.4, 200).text()
        'dev/accuracy: 0.25 → 0.50 (+0.25, 95% interval +0.10 to +0.40, 200 tasks)'
        >>> Change("dev/accuracy", 0.25, 0.5, -0.1, 0.6, 8).text()
        'dev/accuracy: 0.25 → 0.50 (+0.25, 95% interval -0.10 to +0.60, 8 tasks): it may not have changed'
        """
        n = intervals.digits(self.interval)
        numbers = f"{self.name}: {self.before:.{n}f} → {self.after:.{n}f} ({self.after - self.before:+.{n}f}"
        if self.interval is None:
            return f"{numbers}, no interval)"
        low, high = self.interval
        doubt = ": it may not have changed" if self.may_be_none else ""
        better = f"; it was higher before: {self.peak}" if self.peak else ""
        return f"{numbers}, 95% interval {low:+.{n}f} to {high:+.{n}f}, {self.tasks} tasks){doubt}{better}"


def headline(
    changes: Sequence[Change],
    evaluated: Results | None,
    stages: Sequence[Mapping[str, Any]],
    *,
    planned: bool = False,
) -> list[str]:
    """Say what changed on held-out data; where nothing can be concluded, why, and what training shows.

    >>> headline([], None, [])
    ['Nothing was evaluated on held-out data: this page cannot show whether the model improved.']
    """
    if changes:
        return [change.text() for change in changes]
    if evaluated is None:
        yet = " so far" if planned else ""
        lines = [f"Nothing was evaluated on held-out data{yet}: this page cannot show whether the model improved."]
    else:
        when = evaluated.points[-1].when
        lines = [f"Held-out data was evaluated only {when} so far: there is no change to show."]
    for stage in stages:
        drawn = [one for group in stage["groups"] for one in group["charts"] if one["title"] in {"reward", "loss"}]
        lines += [f"{stage['name']}, on its training data: {c['title']} {c['first']} → {c['last']}" for c in drawn[:1]]
    return lines


def unfinished(stages: Sequence[Mapping[str, Any]]) -> str | None:
    """Say which stage of a run did not end, and what did not begin; None of a finished run.

    >>> unfinished([{"name": "a", "finished": True, "steps": 5}, {"name": "b", "finished": False, "steps": 3}])
    'This run is not finished: b ended after step 3.'
    """
    left = [stage for stage in stages if not stage["finished"]]
    if not left:
        return None
    first = (
        f"{left[0]['name']} ended after step {left[0]['steps']}"
        if left[0]["steps"]
        else f"{left[0]['name']} has no step"
    )
    rest = ", ".join(stage["name"] for stage in left[1:])
    return f"This run is not finished: {first}{f'; not begun: {rest}' if rest else ''}."


def metric_changes(folder: Path, graph: Mapping[str, Any], results: Results | None) -> list[Change]:
    """Compare the first and the last held-out results; the confidence interval pairs the answers to the same task."""
    if results is None or len(results.points) < 2:
        return []
    first, last = results.points[0], results.points[-1]
    evaluate = graph.get("evaluate") or {}
    changes = []
    for column in results.columns:
        name, _, metric = column.partition("/")
        both = column in first.values and column in last.values
        if both and metric in evaluate.get(name, {}).get("metrics", (metric,)):
            best = _highest(results.points, column)
            lost = change_between(folder, evaluate, (best, last), column)
            worse = lost.high is not None and lost.high < 0
            peak = f"{lost.before:.{intervals.digits(lost.interval)}f} ({best.when})" if worse else ""
            changes.append(replace(change_between(folder, evaluate, (first, last), column), peak=peak))
    return changes


def _highest(moments: Sequence[EvaluationPoint], column: str) -> EvaluationPoint:
    return max((one for one in moments if column in one.values), key=lambda one: one.values[column])


def change_between(
    folder: Path, evaluate: Mapping[str, Any], moments: tuple[EvaluationPoint, EvaluationPoint], column: str
) -> Change:
    """Compare a metric that two moments have."""
    name, _, metric = column.partition("/")
    correct = float(evaluate.get(name, {}).get("correct_at", 1.0))
    before, after = (task_scores(folder, moment, column, correct) for moment in moments)
    differences = [after[task] - before[task] for task in after if task in before]
    low, high = intervals.change(differences, rates=metric == "accuracy") or (None, None)
    first, last = (moment.values[column] for moment in moments)
    return Change(column, first, last, low, high, len(differences))


def task_scores(folder: Path, moment: EvaluationPoint, column: str, correct: float) -> dict[int, float]:
    """Return the score of each task in an accuracy or a reward at a moment; of other metrics none is known."""
    name, _, metric = column.partition("/")
    if metric not in {"accuracy", "reward"}:
        return {}
    path = folder / "stages" / moment.stage / "samples" / f"eval-{name}-{moment.step:06d}.jsonl"
    return scores(read_lines(path), metric, correct)


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
    """Lay out the curves of a stage in groups; what has no curve of its own is listed: constants, and equal metrics."""
    names = dict.fromkeys(n for row in rows for n in row if n != "step" and is_drawn(row[n]))
    groups: dict[str, dict[str, Any]] = {}
    drawn: dict[tuple[tuple[float, float], ...], str] = {}
    for name in sorted(names, key=_order):
        points = tuple((row["step"], row[name]) for row in rows if is_drawn(row.get(name)))
        group = groups.setdefault(_group(name), {"name": _group(name), "charts": [], "flat": []})
        if len({value for _, value in points}) == 1:
            group["flat"].append({"text": f"{name} {short(points[0][1])}", "meaning": meaning(name)})
        elif points in drawn:
            group["flat"].append({"text": f"{name}, the same as {drawn[points]}", "meaning": meaning(name)})
        else:
            drawn[points] = name
            group["charts"].append({**chart(name, {"": points}), "meaning": meaning(name)})
    return sorted(groups.values(), key=lambda group: [*GROUPS, "Other"].index(group["name"]))


def _group(name: str) -> str:
    return next((group for group, begins in GROUPS.items() if name.startswith(begins)), "Other")


def _order(name: str) -> tuple[int, str]:
    begins = [begin for group in GROUPS.values() for begin in group]
    return next((i for i, begin in enumerate(begins) if name.startswith(begin)), len(begins)), name


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

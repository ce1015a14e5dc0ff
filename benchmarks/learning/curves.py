"""Read learning curves of runs, compare them in pairs, and plot them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EVALUATED = ("held_out",)
POINTS = 121
# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom
T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
NAMES = {"steps": "steps", "tokens": "generated tokens", "calls": "tool calls"}


@dataclass(frozen=True)
class Curve:
    """Held-out success of one run at its evaluations, and the budget spent up to each."""

    success: np.ndarray
    spent: Mapping[str, np.ndarray]
    practice: np.ndarray
    practised: Mapping[str, np.ndarray]
    """Success of the training rollouts of each step, and the budget spent up to its end."""
    rows: float

    def at(self, axis: str, places: np.ndarray) -> np.ndarray:
        """Interpolate held-out success at points of an axis."""
        return np.interp(places, self.spent[axis], self.success)

    def practised_at(self, axis: str, places: np.ndarray) -> np.ndarray:
        """Interpolate the success of training rollouts."""
        return np.interp(places, self.practised[axis], self.practice)


def read(stage: Path, evaluations: Sequence[str] = EVALUATED, rewarded: str = "reward") -> Curve:
    """Read the metrics of a run; a step that a continued run wrote twice counts once.

    Held-out success is the mean over the evaluations that are named, that of training rollouts without an environment
    the metric ``rewarded``.
    """
    lines = {}
    for line in (stage / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        lines[row["step"]] = row
    spent = dict.fromkeys(NAMES, 0.0)
    rows = 0.0
    success, places = [], {axis: [] for axis in NAMES}
    practice, practised = [], {axis: [] for axis in NAMES}
    for _, row in sorted(lines.items()):
        if "rate/tokens_per_second" in row:
            tokens = row.get("tokens/generated", 0.0)
            spent["tokens"] += tokens
            spent["calls"] += row.get("tools/calls", 0.0)
            spent["steps"] += 1
            rows += tokens * row.get("tokens/rows_per_1000", 0.0) / 1000
            practice.append(row.get("episodes/reward", row.get(rewarded, math.nan)))
            for axis, value in spent.items():
                practised[axis].append(value)
        accuracies = [row[key] for name in evaluations if (key := f"eval/{name}/accuracy") in row]
        if accuracies:
            success.append(float(np.mean(accuracies)))
            for axis, value in spent.items():
                places[axis].append(value)
    made, done = ({axis: np.array(values) for axis, values in found.items()} for found in (places, practised))
    return Curve(np.array(success), made, np.array(practice), done, 1000 * rows / max(1.0, spent["tokens"]))


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t."""
    found = np.asarray(values, float)
    if len(found) < 2:
        return float(found.mean()), math.nan
    return float(found.mean()), T[len(found) - 2] * float(found.std(ddof=1)) / math.sqrt(len(found))


def budget(read: Mapping[str, Sequence[Curve]], sides: Sequence[str], axis: str) -> float:
    """Return the largest point of an axis that every run of these sides has reached."""
    return float(min(curve.spent[axis][-1] for side in sides for curve in read[side]))


def area(at: Callable[[str, np.ndarray], np.ndarray], axis: str, end: float) -> float:
    """Return the mean success up to a point: the area under the curve, as a share of its maximum."""
    values = at(axis, np.linspace(0, end, POINTS))
    return float((values[:-1] + values[1:]).mean() / 2)


def signed(values: Sequence[float]) -> str:
    """Format a paired difference with its interval."""
    mean, half = interval(values)
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def sides_table(read: Mapping[str, Sequence[Curve]]) -> str:
    """Return a table of success before and after, and the budget spent; ± is half a 95 % interval."""
    axes = [axis for axis in NAMES if any(curve.spent[axis][-1] for found in read.values() for curve in found)]
    shared = any(curve.rows for found in read.values() for curve in found)
    titles = ["side", "success before", "after", *(NAMES[axis] for axis in axes), *["rows per 1,000 tokens"] * shared]
    lines = [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]
    for side, found in read.items():
        begun, ended = (interval([curve.success[i] for curve in found]) for i in (0, -1))
        spent = [f"{np.mean([curve.spent[axis][-1] for curve in found]):,.0f}" for axis in axes]
        rows = [f"{np.mean([curve.rows for curve in found]):.0f}"] * shared
        cells = [f"`{side}`", *(f"{mean:.3f} ± {half:.3f}" for mean, half in (begun, ended)), *spent, *rows]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compared_table(read: Mapping[str, Sequence[Curve]], compared: Sequence[tuple[str, str, str]]) -> str:
    """Return a table that compares sides at an equal budget, paired by seed.

    `success` is held-out success at that budget, `area` the area under its curve up to there, and `training rollouts`
    the same area for the rollouts that are trained on, which are many more.
    """
    lines = [
        "| compared | at equal | success | difference | area | difference | training rollouts | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for side, against, axis in compared:
        end = budget(read, (side, against), axis)
        there = {s: [float(c.at(axis, np.array([end]))[0]) for c in read[s]] for s in (side, against)}
        areas = {s: [area(c.at, axis, end) for c in read[s]] for s in (side, against)}
        practice = {s: [area(c.practised_at, axis, end) for c in read[s]] for s in (side, against)}
        cells = []
        for found in (there, areas, practice):
            cells.append(f"{np.mean(found[side]):.3f} and {np.mean(found[against]):.3f}")
            cells.append(signed([a - b for a, b in zip(found[side], found[against], strict=True)]))
        lines.append(f"| `{side}` against `{against}` | {NAMES[axis]}: {end:,.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(read: Mapping[str, Sequence[Curve]], axis: str, path: Path) -> None:
    """Plot the mean success of each side with its 95 % interval over the budget spent."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = path.stem
    mpl.rcParams["svg.fonttype"] = "none"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for side, found in read.items():
        places = np.linspace(0, budget(read, [side], axis), 25)
        middle, half = zip(*[interval([float(c.at(axis, p)) for c in found]) for p in places], strict=True)
        low, high = np.subtract(middle, half), np.add(middle, half)
        axes.plot(places, middle, label=side)
        axes.fill_between(places, low, high, alpha=0.2, linewidth=0)
    axes.set_xlabel(f"{NAMES[axis]} so far")
    axes.set_ylabel("held-out success")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})

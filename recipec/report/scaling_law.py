"""The held-out reward as a function of compute: a sigmoid, its intervals, and when the data cannot carry one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recipec.report.intervals import Z_95
from recipec.report.results import Results
from recipec.report.summary import training_rows

LEAST = 8
"""Evaluations that four parameters and their intervals need."""
_FITTED = ("accuracy", "reward")
_STEEPEST = 12.0
_NAMES = ("start", "ceiling", "exponent", "middle")
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ScalingLaw:
    r"""Reward over compute, as in ScaleRL: :math:`R(C) = R_0 + (A - R_0) / (1 + (C_{mid} / C)^B)`.

    Example: ``ScalingLaw(0.1, 0.7, 1.5, 5.0).at(5.0)`` is 0.4, half of the way up.

    References:
        Khatri et al., `ScaleRL <https://arxiv.org/abs/2510.13786>`_, 2025, eq. 1.
    """

    start: float
    """R0, before training."""
    ceiling: float
    """A, what the reward levels off at."""
    exponent: float
    """B, how steep the rise is."""
    middle: float
    """C_mid, the compute at half of the rise."""
    intervals: Mapping[str, Point] | None = None
    """The 95% interval of each parameter."""

    def at(self, compute: float) -> float:
        """Return the reward after an amount of compute; before any, it is the start."""
        return self.start + (self.ceiling - self.start) * self._share(compute)

    def _share(self, compute: float) -> float:
        if compute <= 0:
            return 0.0
        return 1 / (1 + math.exp(min(700.0, self.exponent * (math.log(self.middle) - math.log(compute)))))

    def slopes(self, compute: float) -> list[float]:
        """Return the derivatives of the reward by start, ceiling, exponent and the logarithm of the middle."""
        share = self._share(compute)
        if share == 0:
            return [1.0, 0.0, 0.0, 0.0]
        bend = (self.ceiling - self.start) * share * (1 - share)
        away = math.log(compute) - math.log(self.middle)
        return [1 - share, share, bend * away, -bend * self.exponent]

    def text(self, name: str, unit: str) -> str:
        """Write the fit as one sentence.

        >>> ScalingLaw(0.1, 0.7, 1.5, 5.0, {name: (0.0, 1.0) for name in _NAMES}).text("dev/it", "h")
        'dev/it levels off at 0.700 (0.000 to 1.000), from 0.100; half of the rise is at 5 h (0 to 1), B = 1.5 (0 to 1)'
        """
        ends = dict.fromkeys(_NAMES, (math.nan, math.nan)) | dict(self.intervals or {})
        low, high = ends["ceiling"]
        middle = f"{self.middle:.3g} {unit} ({ends['middle'][0]:.3g} to {ends['middle'][1]:.3g})"
        steep = f"B = {self.exponent:.3g} ({ends['exponent'][0]:.3g} to {ends['exponent'][1]:.3g})"
        return (
            f"{name} levels off at {self.ceiling:.3f} ({low:.3f} to {high:.3f}), from {self.start:.3f}; half of the "
            f"rise is at {middle}, {steep}"
        )


def laws(folder: Path, graph: Mapping[str, Any], table: Results | None) -> list[str]:
    """Fit accuracies and rewards of every rl stage over its device-hours; say of each what was found, or why not."""
    devices = int((graph.get("machine") or {}).get("devices") or 1)
    texts = []
    for stage in graph["stages"]:
        if table is None or stage["kind"] != "rl":
            continue
        hours = {0: 0.0}
        for row in training_rows(folder / "stages" / stage["name"]):
            hours[row["step"]] = max(hours.values()) + float(row.get("seconds/step") or 0.0) * devices / 3600
        for name in table.columns:
            points = [
                (hours[moment.step], moment.values[name])
                for moment in table.points
                if moment.stage == stage["name"] and name in moment.values and moment.step in hours
            ]
            if points and name.rpartition("/")[2] in _FITTED:
                law = fit(points)
                texts.append(law.text(name, "device-hours") if isinstance(law, ScalingLaw) else f"{name}: {law}")
    return texts


def fit(points: Sequence[Point]) -> ScalingLaw | str:
    """Fit the law to pairs of compute and reward by least squares; return why not where the data cannot carry it.

    Intervals are those of the linearised problem, with Student's t. The law is refused with fewer than eight
    evaluations, without a rise, where it explains less than half of the variance, where half of the rise or the bend
    is outside of what was trained, and where the interval of the ceiling is wider than the rise.
    """
    trained = sorted({compute for compute, _ in points if compute > 0})
    if len(points) < LEAST or len(trained) < LEAST - 1:
        return f"no curve is fitted, {len(points)} evaluations are fewer than {LEAST}"
    law, error = _best(points, math.log(trained[0] / 10), math.log(trained[-1] * 10))
    problem = _problem(law, error, points, trained)
    with_intervals = None if problem else _with_intervals(law, points, error)
    if with_intervals is None or with_intervals.intervals is None:
        return f"no curve is fitted, {problem or 'the data do not determine its parameters'}"
    low, high = with_intervals.intervals["ceiling"]
    if high - low > 2 * (law.ceiling - law.start):
        return f"no curve is fitted, its ceiling could be anything from {low:.3g} to {high:.3g}"
    return with_intervals


def _problem(law: ScalingLaw, error: float, points: Sequence[Point], trained: Sequence[float]) -> str:
    """Say why the best curve says nothing; nothing where it may."""
    mean = sum(reward for _, reward in points) / len(points)
    total = sum((reward - mean) ** 2 for _, reward in points)
    if law.ceiling <= law.start or total == 0:
        return "it does not rise with compute"
    if error > total / 2:
        return "compute explains less than half of the variance"
    if not trained[0] <= law.middle <= trained[-1] / 1.5:
        return "it has not bent within what was trained: evaluate more often, or train for longer"
    return ""


def _best(points: Sequence[Point], low: float, high: float) -> tuple[ScalingLaw, float]:
    """Search exponent and middle on a grid, where start and ceiling are linear, and go on by damped Gauss-Newton."""
    steep = math.log(_STEEPEST) - math.log(0.1)
    count = 25
    grid = [
        _linear(points, 0.1 * math.exp(steep * i / (count - 1)), math.exp(low + (high - low) * j / (count - 1)))
        for i in range(count)
        for j in range(count)
    ]
    law = min(grid, key=lambda law: _error(law, points))
    best, damping = _error(law, points), 1e-3
    for _ in range(100):
        rows = [law.slopes(compute) for compute, _ in points]
        left = [reward - law.at(compute) for compute, reward in points]
        square = [[sum(row[i] * row[j] for row in rows) * (1 + damping * (i == j)) for j in range(4)] for i in range(4)]
        inverse = _inverted(square)
        if inverse is None:
            break
        down = [sum(row[i] * rest for row, rest in zip(rows, left, strict=True)) for i in range(4)]
        move = [sum(inverse[i][j] * down[j] for j in range(4)) for i in range(4)]
        exponent = min(_STEEPEST, max(0.1, law.exponent + move[2]))
        middle = min(high, max(low, math.log(law.middle) + move[3]))
        tried = _linear(points, exponent, math.exp(middle))
        error = _error(tried, points)
        if error < best:
            law, done, best, damping = tried, best - error < 1e-14 * best, error, damping / 5
            if done:
                break
        elif damping > 1e6:
            break
        else:
            damping *= 5
    return law, best


def _error(law: ScalingLaw, points: Sequence[Point]) -> float:
    """Add up the squared differences."""
    return sum((law.at(compute) - reward) ** 2 for compute, reward in points)


def _linear(points: Sequence[Point], exponent: float, middle: float) -> ScalingLaw:
    """Return the law of an exponent and a middle that is nearest to the points."""
    shape = ScalingLaw(0.0, 1.0, exponent, middle)
    shares = [shape.at(compute) for compute, _ in points]
    mean_s, mean_r = sum(shares) / len(points), sum(reward for _, reward in points) / len(points)
    spread = sum((share - mean_s) ** 2 for share in shares)
    joint = sum((share - mean_s) * (reward - mean_r) for share, (_, reward) in zip(shares, points, strict=True))
    rise = joint / spread if spread > 0 else 0.0
    start = mean_r - rise * mean_s
    return replace(shape, start=start, ceiling=start + rise)


def _with_intervals(law: ScalingLaw, points: Sequence[Point], error: float) -> ScalingLaw | None:
    """Add the intervals of the linearised least squares; nothing where its matrix has no inverse."""
    rows = [law.slopes(compute) for compute, _ in points]
    inverse = _inverted([[sum(row[i] * row[j] for row in rows) for j in range(4)] for i in range(4)])
    if inverse is None:
        return None
    free = len(points) - 4
    reach = [_student(free) * math.sqrt(max(0.0, inverse[i][i]) * error / free) for i in range(4)]
    interval_of = {
        name: (value - width, value + width)
        for name, value, width in zip(_NAMES[:3], (law.start, law.ceiling, law.exponent), reach, strict=False)
    }
    try:
        interval_of["middle"] = (law.middle * math.exp(-reach[3]), law.middle * math.exp(reach[3]))
    except OverflowError:
        return None
    return replace(law, intervals=interval_of)


def _student(free: int) -> float:
    """Approximate the 97.5% quantile of Student's t by the expansion in one over the degrees of freedom.

    >>> round(_student(4), 1), round(_student(30), 2)
    (2.8, 2.04)
    """
    z = Z_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / free + second / free**2 + third / free**3


def _inverted(matrix: list[list[float]]) -> list[list[float]] | None:
    """Invert a small matrix by elimination with pivots; nothing where it is singular."""
    size = len(matrix)
    scale = [math.sqrt(matrix[i][i]) if matrix[i][i] > 0 else 1.0 for i in range(size)]
    work = [
        [matrix[i][j] / scale[i] / scale[j] for j in range(size)] + [float(i == j) for j in range(size)]
        for i in range(size)
    ]
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(work[row][column]))
        if abs(work[pivot][column]) < 1e-12:
            return None
        work[column], work[pivot] = work[pivot], work[column]
        head = work[column][column]
        work[column] = [value / head for value in work[column]]
        for row in range(size):
            if row != column:
                factor = work[row][column]
                work[row] = [value - factor * own for value, own in zip(work[row], work[column], strict=True)]
    return [[work[i][size + j] / scale[i] / scale[j] for j in range(size)] for i in range(size)]

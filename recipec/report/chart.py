"""The charts of the report: curves as SVG with labelled axes, readable without a script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

WIDTH, HEIGHT = 320, 160
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 10, 22
"""Space around the curves, for the labels."""
POINTS = 400
"""Most points of a curve on the page."""
SMOOTHED = 60
"""Points of a smoothed curve."""
LARGEST = 1e100
"""Values from here on are not drawn, nor those that are not finite."""
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """The ends of an axis and its labelled ticks.

    Example: ``Axis(0.0, 1.0, (0.0, 0.5, 1.0), logarithmic=False)``.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool

    def place(self, value: float) -> float:
        """Return where a value is: 0 at the low end, 1 at the high end."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def axis_of(values: Sequence[float]) -> Axis:
    """Choose the ends of an axis and round ticks; logarithmic if few values would fill most of the axis.

    >>> axis_of([0.14, 0.95]).ticks
    (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    >>> axis_of([0.001, 0.002, 0.004, 10.0]).ticks
    (0.001, 0.01, 0.1, 1.0, 10.0)
    """
    low, high = min(values), max(values)
    if low > 0 and high >= 100 * low and high >= 10 * median(values):
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        every = -(-(last - first) // 5)
        return Axis(10.0**first, 10.0**last, tuple(10.0**i for i in range(first, last + 1, every)), logarithmic=True)
    if low == high:
        low, high = low - (abs(low) or 1.0), high + (abs(high) or 1.0)
    step = _step(high - low)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(float(f"{i * step:.15g}") for i in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, logarithmic=False)


def _step(span: float) -> float:
    """Return a round number that is a fifth of a span or a little more."""
    power = 10.0 ** math.floor(math.log10(span))
    return next(size for share in (0.2, 0.25, 0.5, 1.0, 2.0) if (size := share * power) >= span / 5)


def short(value: float) -> str:
    """Write a number as it is read on an axis: four digits at most.

    >>> short(40190.0), short(0.25), short(5.478e-06), short(1500.0)
    ('40.2k', '0.25', '5.48e-06', '1500')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / min(size, 1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def is_drawn(value: Any) -> bool:
    """Whether a value of a metrics file can be drawn: a number of a size that axes can have.

    >>> is_drawn(0.5), is_drawn(float("nan")), is_drawn("0.5")
    (True, False, False)
    """
    return isinstance(value, int | float) and abs(value) < LARGEST


def chart(title: str, series: Mapping[str, Sequence[Point]], unit: str = "step") -> dict[str, Any]:
    """Lay out the curves of one metric, one for each name, with a smoothed one over each that goes up and down."""
    points = [point for line in series.values() for point in line]
    values = axis_of([value for _, value in points])
    places = [x for x, _ in points]
    first, last = min(places), max(places)
    span = (last - first) or 1.0

    def to_svg(point: Point) -> str:
        x = LEFT + (point[0] - first) / span * (WIDTH - LEFT - RIGHT)
        return f"{x:.1f},{_height(values.place(point[1])):.1f}"

    def line_of(name: str, number: int, line: Sequence[Point], *, smooth: bool) -> dict[str, Any]:
        return {
            "name": name,
            "number": number,
            "smooth": smooth,
            "noisy": smooth or is_noisy(line),
            "points": " ".join(map(to_svg, line)),
            "values": " ".join(f"{x:.7g},{value:.5g}" for x, value in line),
        }

    lines, few = [], max(4, len(series))
    for number, (name, line) in enumerate(series.items()):
        lines.append(line_of(name, number, thinned(line, 4 * POINTS // few), smooth=False))
        if is_noisy(line):
            lines.append(line_of(name, number, smoothed(line, max(20, 4 * SMOOTHED // few)), smooth=True))
    across = [tick for tick in axis_of(places).ticks if first <= tick <= last] if last > first else [first]
    begun, ended = next(iter(series.values()))[0][1], points[-1][1]
    return {
        "title": title,
        "unit": unit,
        "lines": lines,
        "logarithmic": values.logarithmic,
        "rows": [(f"{_height(values.place(tick)):.1f}", label) for tick, label in _labelled(values.ticks)],
        "columns": [(to_svg((tick, values.low)).partition(",")[0], label) for tick, label in _labelled(across)],
        "first": short(begun),
        "last": short(ended),
    }


def _labelled(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """Label ticks in short, or with all digits where short labels would be equal."""
    labels = [short(tick) for tick in ticks]
    return list(zip(ticks, labels if len(set(labels)) == len(labels) else [f"{t:.15g}" for t in ticks], strict=True))


def _height(place: float) -> float:
    return HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)


def is_noisy(points: Sequence[Point]) -> bool:
    """Whether a curve goes up and down so often that a smoothed one helps to see where it goes.

    >>> is_noisy([(i, i) for i in range(100)]), is_noisy([(i, i % 2) for i in range(100)])
    (False, True)
    """
    values = [value for _, value in points]
    moved = sum(abs(after - before) for before, after in pairwise(values))
    return len(values) >= 20 and moved > 3 * (max(values) - min(values))


def smoothed(points: Sequence[Point], most: int = SMOOTHED) -> list[Point]:
    """Return moving averages over a twentieth of a curve, centred, at ``most`` places; windows end with the curve.

    >>> smoothed([(0, 0.0), (1, 3.0), (2, 0.0)])
    [(0, 0.0), (1, 3.0), (2, 0.0)]
    """
    half = len(points) // 40
    places = sorted({round(i * (len(points) - 1) / (most - 1)) for i in range(most)})

    def around(place: int) -> float:
        return fmean(value for _, value in points[max(0, place - half) : place + half + 1])

    return [(points[place][0], around(place)) for place in places]


def thinned(points: Sequence[Point], most: int = POINTS) -> list[Point]:
    """Keep at most ``most`` points: both ends, and the lowest and the highest of each part, so that no peak is lost."""
    if len(points) <= most:
        return list(points)
    stride = -(-len(points) // max(1, most // 2 - 1))
    kept = {0, len(points) - 1}
    for start in range(0, len(points), stride):
        part = range(start, min(start + stride, len(points)))
        kept |= {min(part, key=lambda i: points[i][1]), max(part, key=lambda i: points[i][1])}
    return [points[i] for i in sorted(kept)]

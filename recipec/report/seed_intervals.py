"""Means over runs that differ in nothing but the seed, with 95% intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipec.report.intervals import is_rate

_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""0.975 quantiles of Student's t by degrees of freedom, from 1."""
_Z = 1.960
SEED = "seed"


@dataclass(frozen=True, slots=True)
class SeedMean:
    """Mean of a held-out metric over seeds.

    Example: ``SeedMean(3, 0.5, 0.124)``.
    """

    count: int
    mean: float
    half: float
    """Half the width of the 95% interval of the mean, by Student's t."""
    is_rate: bool = False
    """Whether it is of numbers from 0 to 1."""

    def text(self) -> str:
        """Write mean and interval, that of a rate within 0 and 1.

        >>> SeedMean(3, 0.9, 0.124, is_rate=True).text(), SeedMean(3, 0.9, 0.124).text()
        ('0.900 (0.776 to 1.000)', '0.900 (0.776 to 1.024)')
        """
        low, high = self.mean - self.half, self.mean + self.half
        low, high = (max(0.0, low), min(1.0, high)) if self.is_rate else (low, high)
        return f"{self.mean:.3f} ({low:.3f} to {high:.3f})"


def mean_of(values: Sequence[float], *, rates: bool = False) -> SeedMean:
    """Average at least two values.

    >>> mean_of([0.25, 0.5, 0.75], rates=True).text()
    '0.500 (0.000 to 1.000)'
    """
    count = len(values)
    mean = sum(values) / count
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
    t = _T[count - 2] if count - 2 < len(_T) else _Z
    return SeedMean(count, mean, t * deviation / math.sqrt(count), rates)


def over_seeds(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, dict[str, SeedMean]]]:
    """Return the settings of each group of runs that differ in the seed alone, and the means of their last results.

    A run is a mapping with ``values``, the text of each key, and ``last``, its held-out results. Settings that are the
    same in all runs are left out.
    """
    varied = [key for key in _keys(runs) if key != SEED and len({run["values"].get(key) for run in runs}) > 1]
    groups: dict[tuple[str, ...], dict[str, Mapping[str, float]]] = {}
    for run in runs:
        settings = tuple(str(run["values"].get(key, "")) for key in varied)
        groups.setdefault(settings, {})[run["values"].get(SEED, "")] = run["last"]
    by_group = []
    for settings, by_seed in groups.items():
        columns = dict.fromkeys(column for last in by_seed.values() for column in last)
        values = {column: [last[column] for last in by_seed.values() if column in last] for column in columns}
        means = {c: mean_of(numbers, rates=is_rate(c)) for c, numbers in values.items() if len(numbers) > 1}
        if means:
            name = ", ".join(f"{key}={value}" for key, value in zip(varied, settings, strict=True))
            by_group.append((name or "all runs", means))
    return by_group


def _keys(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run["values"]))

"""95% intervals of held-out results; those of a rate stay within what a rate can be."""

from __future__ import annotations

import math
from collections.abc import Sequence

Z_95 = 1.96
"""Standard errors on either side of a mean in an interval of 95%."""
Ends = tuple[float, float]
_RATES = ("accuracy", "majority", "macro_f1", "majority_macro_f1", "avg@", "pass@")


def is_rate(column: str) -> bool:
    """Whether a metric, with or without the name of its evaluation, is between 0 and 1.

    >>> is_rate("dev/pass@8"), is_rate("reward")
    (True, False)
    """
    return column.rpartition("/")[2].startswith(_RATES)


def rate(values: Sequence[float]) -> Ends | None:
    r"""Return Wilson's interval of the mean :math:`p` of :math:`n` values from 0 to 1; None without any.

    .. math:: \frac{p + z^2 / 2n \pm z \sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    Values between 0 and 1, such as the share of right answers to a task, vary less than those of 0 and 1 with the same
    mean, so the interval is as wide or wider than it need be.

    >>> [round(end, 3) for end in rate([1.0] * 10)]
    [0.722, 1.0]

    Source: Wilson, Probable inference, the law of succession, and statistical inference, JASA 22, 1927.
    """
    if not values:
        return None
    count = len(values)
    p, z = sum(values) / count, Z_95**2 / count
    middle, half = p + z / 2, math.sqrt(z * p * (1 - p) + z * z / 4)
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))


def mean(values: Sequence[float]) -> Ends | None:
    """Return the interval of a mean by its standard error; None of fewer than two values.

    >>> mean([1.0, 1.0]), mean([1.0])
    ((1.0, 1.0), None)
    """
    if len(values) < 2:
        return None
    return _around(values, [1.0] * len(values), len(values) - 1)


def change(differences: Sequence[float], *, rates: bool) -> Ends | None:
    """Return the interval of the mean difference of paired results; None of fewer than two.

    Differences of ``rates`` get four more of weight one half, 1, -1, 0 and 0, and the interval ends at -1 and 1: where
    all answers change alike, the interval still has a width.

    >>> [round(end, 3) for end in change([1.0] * 10, rates=True)]
    [0.567, 1.0]

    Source: Agresti and Min, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 24, 2005.
    """
    if len(differences) < 2 or not rates:
        return mean(differences)
    weights = [1.0] * len(differences) + [0.5] * 4
    low, high = _around([*differences, 1.0, -1.0, 0.0, 0.0], weights, sum(weights))
    return max(-1.0, low), min(1.0, high)


def digits(ends: Ends | None) -> int:
    """Return the decimals that an interval supports: two digits of half its width; 3 where there is none.

    >>> digits((0.4, 0.6)), digits((0.49, 0.51)), digits(None)
    (2, 3, 3)
    """
    half = (ends[1] - ends[0]) / 2 if ends else 0.0
    return min(4, max(0, 1 - math.floor(math.log10(half)))) if half > 0 else 3


def _around(values: Sequence[float], weights: Sequence[float], freedom: float) -> Ends:
    total = sum(weights)
    middle = sum(weight * value for weight, value in zip(weights, values, strict=True)) / total
    squares = sum(weight * (value - middle) ** 2 for weight, value in zip(weights, values, strict=True))
    half = Z_95 * math.sqrt(squares / freedom / total)
    return middle - half, middle + half

"""Which rows go into one update, and which of them into one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.rng import rng_for

Remainder = Literal["keep", "drop", "copy"]


def groups(unit_R: Tensor) -> list[Tensor]:
    """Row indices of each group, groups in order of first appearance.

    >>> [g.tolist() for g in groups(torch.tensor([5, 5, 2, 5, 2]))]
    [[0, 1, 3], [2, 4]]
    """
    members: dict[int, list[int]] = {}
    for row, unit in enumerate(unit_R.tolist()):
        members.setdefault(unit, []).append(row)
    return [torch.tensor(rows) for rows in members.values()]


def minibatches(unit_R: Tensor, budget: Mapping[str, Any], key: tuple[int | str, ...]) -> Iterator[Tensor]:
    """Yield the row indices of each update of one pass over a step's rows.

    Groups (rows that share ``unit_R``) stay together unless the recipe shuffles rows.
    One update takes all rows in their order; several take them in an order drawn from ``key``.
    """
    units = [torch.tensor([row]) for row in range(len(unit_R))] if budget.get("shuffle_rows") else groups(unit_R)
    in_rows = bool(budget.get("rows_per_update"))
    weights = [len(unit) if in_rows else 1 for unit in units]
    size = budget.get("rows_per_update") or budget.get("prompts_per_update")
    count = min(int(budget.get("updates_per_step") or 1), len(units))
    if count > 1 or (size and size < sum(weights)):
        order = rng_for(*key, "minibatches").permutation(len(units)).tolist()
        units, weights = [units[i] for i in order], [weights[i] for i in order]
    remainder: Remainder = budget.get("remainder", "keep")
    if size:
        yield from _filled(units, weights, int(size), remainder)
    else:
        yield from _even(units, count, remainder)


def _even(units: list[Tensor], count: int, remainder: Remainder) -> Iterator[Tensor]:
    """Cut into ``count`` updates: of nearly one size, or of the same with units left out or taken again."""
    total = len(units)
    for i in range(count):
        if remainder == "keep":
            chosen = range(total * i // count, total * (i + 1) // count)
        else:
            size = total // count if remainder == "drop" else -(-total // count)
            chosen = range(i * size, (i + 1) * size)
        yield torch.cat([units[place % total] for place in chosen])


def _filled(units: list[Tensor], weights: list[int], size: int, remainder: Remainder) -> Iterator[Tensor]:
    """Fill updates up to ``size``, one after the other."""
    taken: list[Tensor] = []
    filled = 0
    for unit, weight in zip(units, weights, strict=True):
        if taken and filled + weight > size:
            yield torch.cat(taken)
            taken, filled = [], 0
        taken.append(unit)
        filled += weight
    is_full = filled + min(weights) > size or sum(weights) < size
    if taken and (is_full or remainder == "keep"):
        yield torch.cat(taken)
    elif taken and remainder == "copy":
        for unit, weight in zip(units, weights, strict=True):
            if filled + weight > size:
                break
            taken.append(unit)
            filled += weight
        yield torch.cat(taken)


def updates_per_step(budget: Mapping[str, Any], units: int, rows_per_unit: int) -> int:
    """Updates that a step of ``units`` groups takes, passes included: what a schedule is planned with.

    >>> updates_per_step({"prompts_per_update": 4, "passes": 2}, 8, 16)
    4
    """
    unit_R = torch.arange(units).repeat_interleave(rows_per_unit)
    return sum(1 for _ in minibatches(unit_R, budget, ())) * int(budget.get("passes", 1))


def microbatches(lengths_R: Tensor, unit_R: Tensor | None, tokens: int, *, padded: bool) -> Iterator[Tensor]:
    """Yield the rows of each forward pass: at most ``tokens`` tokens, longest first, pairs (``unit_R``) together.

    ``padded`` counts every row at the width of the widest one.

    Raises:
        RecipeError: RC768, one row or pair alone is larger.
    """
    units = groups(unit_R) if unit_R is not None else [torch.tensor([row]) for row in range(len(lengths_R))]
    widths = [int(lengths_R[unit].max()) for unit in units]
    totals = [int(lengths_R[unit].sum()) for unit in units]
    order = sorted(range(len(units)), key=lambda i: (-widths[i], i))
    taken: list[Tensor] = []
    used = width = count = 0
    for i in order:
        cost = widths[i] * len(units[i]) if padded else totals[i]
        if cost > tokens:
            raise RecipeError(errors.row_over_budget(cost, tokens))
        after = max(width, widths[i]) * (count + len(units[i])) if padded else used + totals[i]
        if taken and after > tokens:
            yield torch.cat(taken)
            taken, used, width, count = [], 0, 0, 0
        taken.append(units[i])
        used, width, count = used + totals[i], max(width, widths[i]), count + len(units[i])
    if taken:
        yield torch.cat(taken)

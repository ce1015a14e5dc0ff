"""Held-out results of a run in one table over its stages, for the report, the terminal and `results.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipec.host.artifacts import write_atomic
from recipec.host.jsonl import read_lines

FORMAT = 1
_PREFIX = "eval/"
_WIDTH = 100
"""Characters of a line of the table in a terminal; more columns go below each other."""


@dataclass(frozen=True, slots=True)
class EvaluationPoint:
    """One evaluation on held-out data.

    Example: ``EvaluationPoint("explore", 40, "after explore", {"dev/accuracy": 0.5}, {"dev/accuracy": 0.25})``.
    """

    stage: str
    step: int
    when: str
    values: Mapping[str, float]
    changes: Mapping[str, float]
    """Change of each value since the last evaluation that has it."""


@dataclass(frozen=True, slots=True)
class Results:
    """Moments in order, and the metrics that any of them has.

    Example: ``Results(("dev/accuracy",), (EvaluationPoint("explore", 0, "before training", {"dev/accuracy": 0.25},
    {}),))``.
    """

    columns: tuple[str, ...]
    points: tuple[EvaluationPoint, ...]

    def to_json(self) -> str:
        """Write the table for programs."""
        rows = [
            {"stage": m.stage, "step": m.step, "when": m.when, "values": dict(m.values), "changes": dict(m.changes)}
            for m in self.points
        ]
        return json.dumps({"format": FORMAT, "columns": list(self.columns), "rows": rows}, indent=1) + "\n"

    def cells(self, moment: EvaluationPoint) -> list[tuple[str, str]]:
        """Return the value and its change of every column, as people read them."""
        return [(_shown(moment.values.get(name)), _signed(moment.changes.get(name))) for name in self.columns]

    def text(self) -> str:
        """Write the table for a terminal: moments below each other, changes in brackets.

        >>> before = EvaluationPoint("a", 0, "before training", {"dev/accuracy": 0.25}, {})
        >>> after = EvaluationPoint("a", 9, "after a", {"dev/accuracy": 0.5}, {"dev/accuracy": 0.25})
        >>> print(Results(("dev/accuracy",), (before, after)).text())
                         dev/accuracy
        before training  0.250
        after a          0.500 (+0.250)
        """
        if not self.points:
            return "nothing was evaluated"
        rows = [[m.when, *(f"{v} ({c})" if c else v for v, c in self.cells(m))] for m in self.points]
        lines = [["", *self.columns], *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        blocks, used = [[0]], 0
        for column in range(1, len(widths)):
            used += widths[column] + 2
            if len(blocks[-1]) > 1 and widths[0] + used > _WIDTH:
                blocks.append([0])
                used = widths[column] + 2
            blocks[-1].append(column)
        return "\n\n".join(
            "\n".join("  ".join(row[i].ljust(widths[i]) for i in block).rstrip() for row in lines) for block in blocks
        )


def results(folder: Path, stages: Sequence[str], *, every: bool = False) -> Results | None:
    """Read what a run directory holds: before training and after each stage, or ``every`` moment; None without any.

    A stage that is not finished counts with its last moment.
    """
    evaluations: list[tuple[str, int, str, dict[str, float]]] = []
    for name in stages:
        home = folder / "stages" / name
        moments = [(row["step"], values) for row in _rows(home) if (values := _values(row))]
        for place, (step, values) in enumerate(moments):
            last = place == len(moments) - 1
            if not every and step and not last:
                continue
            done = last and (home / "policy").exists()
            when = "before training" if step == 0 else f"after {name}" if done else f"{name}, step {step}"
            evaluations.append((name, step, when, values))
    if not evaluations:
        return None
    columns = tuple(dict.fromkeys(key for *_, values in evaluations for key in values))
    return Results(columns, tuple(_changed(evaluations)))


def write(folder: Path, stages: Sequence[str]) -> Results | None:
    """Write `results.json` of a run directory, where anything was evaluated, and return the table."""
    table = results(folder, stages)
    if table is not None:
        write_atomic(folder / "results.json", table.to_json())
    return table


def evaluated(folder: Path, stage: str) -> set[str]:
    """Return the held-out metrics that a stage of a run directory has, as ``EVALUATION/METRIC``."""
    rows = _rows(folder / "stages" / stage)
    return {key.removeprefix(_PREFIX) for row in rows for key in row if key.startswith(_PREFIX)}


def _rows(home: Path) -> Iterator[Mapping[str, Any]]:
    return (row for row in read_lines(home / "metrics.jsonl") if isinstance(row.get("step"), int))


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key.removeprefix(_PREFIX): value
        for key, value in row.items()
        if key.startswith(_PREFIX) and isinstance(value, int | float)
    }


def _changed(evaluations: Sequence[tuple[str, int, str, dict[str, float]]]) -> Iterator[EvaluationPoint]:
    before: dict[str, float] = {}
    for name, step, when, values in evaluations:
        yield EvaluationPoint(
            name, step, when, values, {key: values[key] - before[key] for key in values if key in before}
        )
        before |= values


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _signed(change: float | None) -> str:
    """Write a change; nothing where there is no value before.

    >>> _signed(0.25), _signed(-0.0001), _signed(None)
    ('+0.250', '±0.000', '')
    """
    text = "" if change is None else f"{change:+.3f}"
    return "±0.000" if text in {"+0.000", "-0.000"} else text

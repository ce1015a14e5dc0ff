"""Bounds of the total reward, known before any answer is sampled: values of right and of wrong answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from recipec.checks.queries import Spans, related_span
from recipec.reading.partial import Path, Reading
from recipec.spec.reward import Reward

Span = tuple[float, float]


class Levels(NamedTuple):
    """The rewards of an evaluation, and the stage that lends them, if they are not its own."""

    specs: dict[str, Reward]
    path: Path
    """Where they stand; each is below it by its name."""
    lender: str = ""

    def where(self, reading: Reading, level: str, label: str) -> Spans:
        """Return the place of a level as a further span."""
        return related_span(reading, (*self.path, level), label, key=True)


def rewards_of(reading: Reading, name: str) -> Levels | None:
    """Return what scores the answers of an evaluation; None where it could not be read, or there is nothing."""
    own = reading.evaluate[name].reward
    if own:
        named = {level: spec for level, spec in own.items() if isinstance(spec, Reward)}
        return Levels(named, ("evaluate", name, "reward"))
    scoring = next((stage for stage in reading.stages.values() if stage.kind == "rl"), None)
    parts = scoring.of("reward") if scoring else ()
    specs = {part.level: part.spec for part in parts if isinstance(part.spec, Reward)}
    if scoring is None or not specs or len(specs) < len(parts):
        return None
    return Levels(specs, (*scoring.path, "reward"), scoring.name)


def judged(specs: Sequence[Reward]) -> tuple[Span, Span] | None:
    """Return what right and what wrong answers may earn in all; None where that is not known or nothing judges.

    >>> from recipec.spec.reward import ExactMatch, Sections
    >>> judged([ExactMatch(correct=7, wrong=-1), Sections(weight=2)])
    ((6.0, 9.0), (-2.0, 1.0))
    """
    counted = [spec for spec in specs if spec.weight]
    judges = [spec for spec in counted if spec.judges]
    values = judges[0].outcome_values() if len(judges) == 1 else None
    if values is None or values[0] == values[1]:
        return None
    low = high = 0.0
    for spec in (spec for spec in counted if not spec.judges):
        bound = spec.bounds()
        if bound is None:
            return None
        ends = sorted(spec.shaped(end) for end in bound)
        low, high = low + ends[0], high + ends[1]
    right, wrong = (judges[0].shaped(value) for value in values)
    return (right + low, right + high), (wrong + low, wrong + high)

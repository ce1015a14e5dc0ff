"""What can be known of a total reward before any answer is written: the values that right and wrong answers may get."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from recipec.checks.queries import Spans, related_span, span_of
from recipec.component import Component
from recipec.reading.partial import Path, Reading

Span = tuple[float, float]


class Levels(NamedTuple):
    """The rewards of an evaluation, and the stage that lends them, if they are not its own."""

    specs: dict[str, Component]
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
        return Levels(dict(own), ("evaluate", name, "reward"))
    scoring = next((stage for stage in reading.stages.values() if stage.kind == "rl"), None)
    parts = scoring.of("reward") if scoring else ()
    specs = {part.level: part.spec for part in parts if part.spec is not None}
    if scoring is None or not specs or len(specs) < len(parts):
        return None
    return Levels(specs, (*scoring.path, "reward"), scoring.name)


def values(spec: Any) -> Span | None:
    """Return the least and the most that a level gives, before its weight; None where nothing bounds it.

    >>> from recipec.spec.reward import Length, Sections, Verifier
    >>> values(Sections()), values(Length(max_length=8)), values(Verifier())
    ((-0.5, 1.0), (-1.0, 0.0), None)
    """
    match spec.type_name:
        case "exact_match" | "math_verify":
            found = [spec.correct, spec.wrong]
        case "regex_format":
            found = [spec.match, spec.mismatch]
        case "length":
            found = [-1.0, 0.0]
        case "sections":
            extra = (spec.nothing_between, spec.complete)
            low, high = (sum(pick(0.0, value) for value in extra) for pick in (min, max))
            found = [spec.malformed, spec.well_formed + low, spec.well_formed + high]
        case "kg_consistency" if spec.average == "mean" or spec.cap is not None:
            found = [spec.supported, spec.contradicted, spec.unknown]
            cap = spec.cap
            if cap is not None:
                found = [-cap, cap] if spec.average == "sum" else [max(-cap, min(cap, value)) for value in found]
            found.append(spec.silent)
        case _:
            return None
    return min(found), max(found)


def judged(specs: Sequence[Any]) -> tuple[Span, Span] | None:
    """Return what right and what wrong answers may earn in all; None where that is not known or nothing judges.

    >>> from recipec.spec.reward import ExactMatch, Sections
    >>> judged([ExactMatch(correct=7, wrong=-1), Sections(weight=2)])
    ((6.0, 9.0), (-2.0, 1.0))
    """
    counted = [spec for spec in specs if spec.weight]
    judges = [spec for spec in counted if spec.type_name in {"exact_match", "math_verify"}]
    bounds = [values(spec) for spec in counted if spec not in judges]
    if len(judges) != 1 or judges[0].correct == judges[0].wrong:
        return None
    low = high = 0.0
    for spec, bound in zip((spec for spec in counted if spec not in judges), bounds, strict=True):
        if bound is None:
            return None
        ends = sorted(spec.weight * end for end in bound)
        low, high = low + ends[0], high + ends[1]
    right, wrong = (judges[0].weight * value for value in (judges[0].correct, judges[0].wrong))
    return (right + low, right + high), (wrong + low, wrong + high)


def metric_place(reading: Reading, name: str, index: int) -> Spans:
    """Where an evaluation names a metric."""
    return span_of(reading, ("evaluate", name, "metrics", index))

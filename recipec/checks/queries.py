"""What checks can ask a reading: places in the text, and what is known of a stage before it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from recipec.component import Component
from recipec.diagnostics.model import Finding, Span, dotted
from recipec.reading.partial import Part, Path, Reading, StageReading
from recipec.spec.recipe import UNIT, weights_kind

if TYPE_CHECKING:
    from recipec.spec.data import Data
    from recipec.spec.environment import Environment
    from recipec.spec.policy import Policy
    from recipec.spec.reference import Reference
    from recipec.spec.sampler import Sampler

Spans = tuple[Span, ...]
C = TypeVar("C", bound=Component)


def is_given(reading: Reading, path: Path) -> bool:
    """Whether the recipe says something at exactly this path."""
    value: Any = reading.resolved.data
    for step in path:
        has = step in value if isinstance(value, dict) else isinstance(value, list) and step in range(len(value))
        if not has:
            return False
        value = value[step]
    return True


def span_of(reading: Reading, path: Path, *, key: bool = False) -> Spans:
    """Where the value of ``path`` stands; the key of the nearest mapping around it where it is left to its default."""
    depth = len(path)
    while depth and not is_given(reading, path[:depth]):
        depth -= 1
    value: Any = reading.resolved.data
    for step in path[:depth]:
        value = value[step]
    is_value = depth == len(path) and not isinstance(value, dict)
    return reading.resolved.spans(path[:depth], key=key or not is_value) if depth else ()


def related_span(reading: Reading, path: Path, label: str, *, key: bool = False) -> Spans:
    """Return the place of ``path`` as a further span, which says what it contributes."""
    return tuple(span.labelled(label) for span in span_of(reading, path, key=key)[:1])


def field_span(reading: Reading, part: Part, name: str) -> Spans:
    """Where a parameter of a part is set, or else its ``type``, or else the part."""
    for path in ((*part.path, name), (*part.path, "type")):
        if is_given(reading, path):
            return span_of(reading, path)
    return span_of(reading, part.path)


@dataclass(frozen=True, slots=True)
class Place:
    """What a finding is about: the path of a key, and where the recipe says it."""

    path: Path
    spans: Spans

    def finding(self, message: str, *related: Span, why: str = "", remedy: str = "") -> Finding:
        """Return a finding about the place; ``related`` are further ones."""
        return Finding(message, (*self.spans, *related), why, remedy, dotted(self.path))


def at_field(reading: Reading, part: Part, name: str) -> Place:
    """Return the place of a parameter of a part."""
    return Place((*part.path, name), field_span(reading, part, name))


def at_part(reading: Reading, part: Part) -> Place:
    """Return the place of a part: of its ``type``, where it is named."""
    return Place(part.path, field_span(reading, part, "type"))


def at_path(reading: Reading, path: Path, *, key: bool = False) -> Place:
    """Return the place of a value, or of its key."""
    return Place(path, span_of(reading, path, key=key))


@overload
def spec_of(stage: StageReading, slot: Literal["data"]) -> Data | None: ...
@overload
def spec_of(stage: StageReading, slot: Literal["environment"]) -> Environment | None: ...
@overload
def spec_of(stage: StageReading, slot: Literal["sampler"]) -> Sampler | None: ...
@overload
def spec_of(stage: StageReading, slot: Literal["policy"]) -> Policy | None: ...
@overload
def spec_of(stage: StageReading, slot: Literal["reference"]) -> Reference | None: ...
@overload
def spec_of(stage: StageReading, slot: str) -> Any: ...
def spec_of(stage: StageReading, slot: str) -> Any:
    """Return the spec of a slot that holds one component; None if it is missing or could not be read."""
    parts = stage.of(slot)
    return parts[0].spec if parts else None


def shares(part: Part | None) -> str:
    """Say what an attention lets rows share; nothing where it could not be read."""
    cls: Any = part.cls if part is not None else None
    return cls.shares if cls is not None else ""


def display_name(part: Part) -> str:
    """Name a part as its user would.

    >>> display_name(Part(("stages", "a", "advantage", "inner"), "advantage", "inner", "rloo", None, None))
    'advantage level `inner`'
    """
    return f"{part.slot} level `{part.level}`" if part.level else f"{part.slot} `{part.name}`"


def parts_of(reading: Reading, cls: type[C]) -> Iterator[tuple[StageReading, Part, C]]:
    """Yield every readable part of a class: of one component and its subclasses, or, for a base class, of a slot."""
    for stage in reading.stages.values():
        for part in stage.of(cls.slot):
            if isinstance(part.spec, cls):
                yield stage, part, part.spec


def ancestors(reading: Reading, stage: StageReading) -> Iterator[StageReading]:
    """Yield the stages that a stage starts from, the nearest first."""
    seen = {stage.name}
    while stage.origin is not None and weights_kind(stage.origin) == "stage" and stage.origin in reading.stages:
        stage = reading.stages[stage.origin]
        if stage.name in seen:
            return
        seen.add(stage.name)
        yield stage


def from_scratch(reading: Reading, stage: StageReading) -> Any:
    """Return the description of the new model that a stage or its ancestors start from, if any."""
    for at in (stage, *ancestors(reading, stage)):
        if at.origin == "scratch":
            policy = spec_of(at, "policy")
            return None if policy is None else policy.new_model()
    return None


def trains_adapter(reading: Reading, stage: StageReading) -> bool:
    """Whether a stage ends with an adapter: a new one, or one that it continues, which may come from a directory.

    What a stage ends with that starts from no earlier one, or from weights that are not known, is taken for one.
    """
    order = list(reading.stages)
    for one in (stage, *ancestors(reading, stage)):
        policy = spec_of(one, "policy")
        if policy is not None and policy.adapter() is not None:
            return True
        if one.adapter != "continue" or one.origin is None:
            return False
        if one.origin not in order or order.index(one.origin) >= order.index(one.name):
            return weights_kind(one.origin) != "scratch"
    return False


def parent(reading: Reading, stage: StageReading) -> StageReading | None:
    """Return the stage that ``from`` names."""
    return next(ancestors(reading, stage), None)


def group_size(stage: StageReading, signal: str) -> int | None:
    """Rows per value of a grouping level; None where only the run can tell."""
    spec = spec_of(stage, "sampler")
    size: int | None = None if spec is None else spec.group_size(signal)
    return size


def turns(stage: StageReading) -> int | None:
    """Most turns of an episode: 1 without an environment; None where the environment could not be read."""
    if not stage.of("environment"):
        return 1
    spec = spec_of(stage, "environment")
    return None if spec is None else spec.most_turns()


def longest_turn(stage: StageReading) -> int | None:
    """Longest turn in tokens: a whole completion without an environment; None where the sampler could not be read."""
    spec = spec_of(stage, "sampler")
    if spec is None:
        return None
    longest: int | None = spec.longest_turn() if stage.of("environment") else spec.longest_completion()
    return longest


def most_written(stage: StageReading) -> int | None:
    """Most tokens that the policy writes in a row: one turn in step rows, else all turns that the context holds."""
    spec, turn, count = spec_of(stage, "sampler"), longest_turn(stage), turns(stage)
    if spec is None or turn is None or count is None:
        return None
    written = turn * (1 if spec.rows == "step" else count)
    limit: int | None = spec.max_context_length if stage.of("environment") else None
    return min(written, limit) if limit else written


def units_per_step(stage: StageReading) -> int | None:
    """Prompts, rows or pairs of a step; None where the recipe does not say."""
    if stage.budget is None or stage.kind is None:
        return None
    units: int | None = getattr(stage.budget, UNIT[stage.kind])
    return units


def updates_per_step(stage: StageReading) -> int | None:
    """Updates of one step, all passes; None where it depends on rows that only the run counts."""
    budget, units = stage.budget, units_per_step(stage)
    if budget is None:
        return None
    if budget.updates_per_step is not None:
        return budget.updates_per_step * budget.passes
    per: int | None = budget.prompts_per_update
    if per is None and budget.rows_per_update is not None:
        rows = {"sft": 1, "dpo": 2, "rm": 2, "rl": group_size(stage, "by_prompt_R")}.get(stage.kind or "")
        if rows is None or units is None:
            return None
        per, units = budget.rows_per_update, units * rows
    if per is None:
        return budget.passes
    if units is None:
        return None
    return max(1, units // per if budget.remainder == "drop" else -(-units // per)) * budget.passes


def several_updates(stage: StageReading) -> bool:
    """Whether a step's rows surely serve more than one update."""
    count = updates_per_step(stage)
    return count is not None and count > 1

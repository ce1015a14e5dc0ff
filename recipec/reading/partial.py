"""A recipe as far as it could be read: the partial view that later passes check, so that errors do not cascade."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recipec.component import Component, components_of
from recipec.diagnostics.model import Diagnostic
from recipec.spec.recipe import Budget, Evaluation, Kind, Levels, Recipe

if TYPE_CHECKING:
    from recipec.language.resolve import Resolved

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One component, as far as it could be read.

    Example: ``Part(("stages", "explore", "loss"), "loss", "", "clipped", Clipped, Clipped(), True)``.
    ``given`` is false for one that the recipe leaves to its default, or lacks; ``path`` is then where it would stand,
    or, for a policy that crosses with ``from``, where the earlier stage says it.
    """

    path: Path
    slot: str
    level: str
    name: str
    cls: type[Component] | None
    spec: Component | None
    given: bool = True

    def could_provide(self) -> tuple[str, ...]:
        """Signals that the part counts for: its own, those its class declares, or those its slot could give."""
        if self.spec is not None:
            return self.spec.provides()
        classes = [self.cls] if self.cls else list(components_of(self.slot).values())
        return tuple(dict.fromkeys(signal for cls in classes for signal in cls.declares()))


@dataclass(frozen=True, slots=True)
class StageReading:
    """One stage, as far as it could be read; what could not be is ``None``.

    Of the slots that the stage does not name, there are parts for the default loss, optimizer and attention, for the
    policy that crosses with ``from``, for the ``frozen`` reference that an rl or dpo stage has if the recipe names it,
    and for slots that are missing by mistake.
    """

    name: str
    path: Path
    kind: Kind | None
    origin: str | None
    adapter: str | None
    budget: Budget | None
    allow: dict[str, str]
    parts: tuple[Part, ...]
    levels: Levels = field(default_factory=Levels)
    """How the levels of advantage become one credit."""

    @property
    def combine(self) -> str:
        """How the levels of advantage are combined."""
        return self.levels.combine

    def of(self, slot: str) -> tuple[Part, ...]:
        """The parts of a slot: one, or one for each level; none if the stage has none."""
        return tuple(part for part in self.parts if part.slot == slot)


@dataclass(frozen=True, slots=True)
class EvaluationReading:
    """One evaluation, as far as it could be read."""

    name: str
    path: Path
    parts: tuple[Part, ...]
    spec: Evaluation | None


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was read, and what is wrong with it; equal to itself only."""

    resolved: Resolved
    recipe: Recipe | None
    """The whole recipe; only when nothing is wrong with it and it is not a fragment."""
    stages: dict[str, StageReading]
    evaluate: dict[str, Evaluation]
    """Evaluations with which nothing is wrong and that have data; ``trials`` has what could be read of every one."""
    trials: dict[str, EvaluationReading]
    machine: dict[str, Part]
    """The engines, under ``train`` and ``rollout``."""
    consumed: dict[str, str]
    """Dotted key of the file -> who read it: ``explore/loss``, ``explore``, ``evaluate.NAME``, ``machine``, …"""
    diagnostics: tuple[Diagnostic, ...] = ()
    fragment: bool = False
    trackers: tuple[Part, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part of every stage."""
        return tuple(part for stage in self.stages.values() for part in stage.parts)

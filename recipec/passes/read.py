"""Resolved data -> frozen specs, slot by slot: RC130 to RC199.

One bad knob hides nothing else: every component is validated on its own, and one that could not be read still counts
for what its class declares.  ``Reading.rows`` is that partial view; ``Reading.recipe`` exists only when nothing is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recipec.component import Component, known
from recipec.diagnostics import Diagnostic
from recipec.spec.recipe import Budget, Evaluation, Kind, Recipe

if TYPE_CHECKING:
    from recipec.resolve import Resolved

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One component of a stage, as far as it could be read.

    Example: ``Part(("stages", "explore", "loss"), "loss", "", "clipped", Clipped, Clipped(), True)``.
    ``given`` is false for a component that the recipe leaves to its default; ``path`` is then where it would stand,
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
        classes = [self.cls] if self.cls else list(known(self.slot).values())
        return tuple(dict.fromkeys(signal for cls in classes for signal in cls.declares()))


@dataclass(frozen=True, slots=True)
class Row:
    """One stage, as far as it could be read; what could not be is ``None``."""

    name: str
    path: Path
    kind: Kind | None
    origin: str | None
    adapter: str | None
    budget: Budget | None
    allow: dict[str, str]
    parts: tuple[Part, ...]

    def of(self, slot: str) -> tuple[Part, ...]:
        """The parts of a slot: one, or one for each level; none if the stage has none."""
        return tuple(part for part in self.parts if part.slot == slot)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read, and what is wrong with it."""

    resolved: Resolved
    recipe: Recipe | None
    rows: dict[str, Row]
    evaluate: dict[str, Evaluation]
    machine: dict[str, Part]
    consumed: dict[str, str]
    diagnostics: tuple[Diagnostic, ...] = ()
    fragment: bool = False
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part of every stage."""
        return tuple(part for row in self.rows.values() for part in row.parts)


def read_recipe(resolved: Resolved) -> Reading:
    """Validate resolved data slot by slot; never raises for a user's mistake."""
    raise NotImplementedError

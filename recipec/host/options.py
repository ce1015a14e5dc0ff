"""Options of a run from the command line, and of a stage from the executor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from recipec.diagnostics.model import Diagnostic, Span
from recipec.host.progress import Progress
from recipec.host.ranks import Ranks


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a run from the command line."""

    root: Path
    """Folder of the recipe: its paths are relative to it."""
    out: Path
    """The run directory."""
    use: Sequence[Path] = ()
    """Files with the user's functions that may be executed."""
    replace: bool = False
    """Run again what a changed recipe invalidates, and keep the earlier results."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """The recipe's own files, stored with the run; the recipe itself first."""
    resolved: str = ""
    """Every value of the recipe with the place that says it, overrides and extended files included."""
    plan: str = "{}"
    """The plan before the run, as JSON; stored with the run."""
    locate: Callable[[str], Sequence[Span]] = lambda _key: ()
    """Where the recipe says a dotted key."""
    allowed: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Codes of warnings that each stage allows."""


class StepProgress(Protocol):
    """Shows how the stage is going."""

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """A step is over."""


@dataclass(frozen=True, slots=True)
class StageRun:
    """Options of a stage from the executor."""

    digest: str
    """Run digest of the stage."""
    first: bool
    """Whether it is the first of the recipe: evaluations then come before its first step, too."""
    progress: Progress
    stopped: Callable[[], bool]
    begun: Callable[[], None] = lambda: None
    warn: Callable[[Diagnostic], None] = lambda _: None
    ranks: Ranks = field(default_factory=Ranks)
    """The processes of the run."""
    watching: StepProgress | None = None
    """Receives the steps instead of ``progress``."""

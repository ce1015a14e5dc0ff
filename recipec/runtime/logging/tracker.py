"""What takes the metrics of a stage elsewhere: to TensorBoard, and to the trackers of the recipe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors.run_progress import tracker_failed
from recipec.diagnostics.model import Diagnostic


@dataclass(frozen=True, slots=True)
class TrackedStage:
    """The stage with the metrics that a tracker takes.

    Example: ``TrackedStage("quickstart", "explore", Path("runs/quickstart"), "9f0c2a81d4e67b35")``.
    """

    recipe: str
    """Name of the recipe."""
    stage: str
    folder: Path
    """The run directory."""
    key: str
    """The same whenever the stage is continued, and another one for another run directory or another recipe."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Dotted keys of the recipe and their values."""

    @property
    def name(self) -> str:
        """Name of the run directory and the stage.

        >>> TrackedStage("quickstart", "explore", Path("runs/lr3"), "9f").name
        'lr3/explore'
        """
        return f"{self.folder.name}/{self.stage}"


class Tracker(ABC):
    """Takes the metrics of one stage; of several processes, it is used in the one that writes the journal."""

    def __init__(self, spec: Any, context: TrackedStage) -> None:
        """Nothing is opened before :meth:`begin`."""
        self.spec, self.stage = spec, context

    @abstractmethod
    def begin(self) -> int:
        """Open the stage, for the first time or again, and return the last step that it has; -1 if it has none.

        All later lines of the journal follow. What a tracker has beyond the journal, because a killed run is
        continued from an earlier step, is deleted here, or stays and is not written again.
        """

    @abstractmethod
    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the finite metrics of a step."""

    @abstractmethod
    def close(self) -> None:
        """Send what is left."""


class LenientTracker(Tracker):
    """A tracker that may fail without ending the run: that is reported once, and the next run sends what it missed."""

    def __init__(self, name: str, tracker: Tracker, warn: Callable[[Diagnostic], None]) -> None:
        """Guard the tracker that the recipe calls ``name``."""
        super().__init__(tracker.spec, tracker.stage)
        self._name, self._tracker, self._warn = name, tracker, warn
        self._failed = False

    def begin(self) -> int:
        """Open the tracker."""
        step = self._attempt(self._tracker.begin)
        return -1 if step is None else step

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Pass the metrics on, unless the tracker has failed."""
        self._attempt(lambda: self._tracker.write(step, metrics))

    def close(self) -> None:
        """Close the tracker, unless it has failed."""
        self._attempt(self._tracker.close)

    def _attempt(self, act: Callable[[], Any]) -> Any:
        if self._failed:
            return None
        try:
            return act()
        except Exception as error:  # noqa: BLE001 - a client of a service may raise anything
            self._failed = True
            self._warn(tracker_failed(self._name, self.spec.type_name, f"{type(error).__name__}: {error}"))
            return None

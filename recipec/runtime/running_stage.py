"""A stage bound to its parts: what the loop runs and a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from recipec.diagnostics.model import Diagnostic
from recipec.graph import StageGraph
from recipec.run.artifacts import RunFolder
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.training.local import LocalEngine
from recipec.runtime.training.optimizer import AdamW
from recipec.spec.recipe import UNIT


class StepProgress(Protocol):
    """Who is told how the stage is going."""

    def step(self, stage: str, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """A step is over."""


@dataclass(slots=True)
class RunningStage:
    """A stage bound to its parts, ready to run."""

    graph: StageGraph
    context: StageContext
    folder: RunFolder
    runner: GraphRunner
    policy: Any
    source: Any
    """What tasks are drawn from: the data, or the pairs that a preference made."""
    optimizer: AdamW
    engine: LocalEngine
    metrics_writer: MetricsWriter
    show: StepProgress
    evaluate: Callable[[int], dict[str, float]]
    stopped: Callable[[], bool]
    digest: str
    replace: bool = False
    """Whether a stage that was begun under other conditions begins again, the former checkpoints set aside."""
    begun: Callable[[], None] = lambda: None
    """Told when the first step begins."""
    warn: Callable[[Diagnostic], None] = lambda _: None
    """Told what is wrong and not in the way."""
    total: int = 0
    step: int = 0
    tokens: int = 0
    """Tokens of all rows so far, prompts among them."""
    values: Values = field(default_factory=dict)
    """What the nodes before the loop made."""

    @property
    def budget(self) -> Mapping[str, Any]:
        """The stage's budget, as compiled."""
        found: Mapping[str, Any] = self.graph.settings["budget"]
        return found

    @property
    def per_step(self) -> int:
        """Prompts, rows or pairs of a step."""
        return min(int(self.budget[UNIT[self.graph.kind]]), len(self.source))

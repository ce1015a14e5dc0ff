"""A stage with everything it is made of: what the loop runs and a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from recipec.diagnostics.model import Diagnostic
from recipec.graph import StageGraph
from recipec.host.artifacts import RunFolder
from recipec.host.options import StepProgress
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.logging.metrics_writer import MetricsWriter
from recipec.runtime.protocols import Critic, Environment, Part, Policy, TaskSource, TrainEngine
from recipec.runtime.rollout.lookahead import Lookahead
from recipec.runtime.rollout.weight_transfer import WeightTransfer
from recipec.spec.recipe import UNIT


@dataclass(frozen=True, slots=True)
class Observers:
    """What a stage reports to and asks while it runs."""

    progress: StepProgress
    stopped: Callable[[], bool]
    """Whether the user wants the run to stop."""
    begun: Callable[[], None] = lambda: None
    """Called when the first step begins."""
    warn: Callable[[Diagnostic], None] = lambda _: None
    """Takes what is wrong and does not end the run."""


@dataclass(slots=True)
class Counters:
    """How far a stage has come."""

    step: int = 0
    tokens: int = 0
    """Tokens of all samples so far, prompts included."""
    samples: dict[str, str] = field(default_factory=dict)
    """Hashes of the files of sampled rows so far, by name: later stages read them."""


@dataclass(frozen=True, slots=True)
class RunningStage:
    """A stage, built and ready to run; only its ``counters`` change, and the state of its parts."""

    graph: StageGraph
    context: StageContext
    folder: RunFolder
    runner: GraphRunner
    policy: Policy
    source: TaskSource
    """What tasks are drawn from: the data, or the pairs that a preference made."""
    weight_transfer: WeightTransfer
    """From the training engine to the rollout engine."""
    lookahead: Lookahead | None
    """Rollouts of coming steps, where they are sampled ahead."""
    train_engine: TrainEngine
    environment: Environment | None
    metrics_writer: MetricsWriter
    observers: Observers
    evaluate: Callable[[int, int, int], dict[str, float]]
    """Metrics of the evaluations that are due, by step and total number of steps."""
    digest: str
    """Run digest: what a checkpoint must be of."""
    replace: bool = False
    """Whether a stage that was begun under other conditions begins again, the former checkpoints set aside."""
    values: Values = field(default_factory=dict)
    """What the nodes before the loop made."""
    counters: Counters = field(default_factory=Counters)

    @property
    def critic(self) -> Critic | None:
        """The critic, where the stage has one."""
        critic: Critic | None = self.runner.instances.get(f"{self.graph.name}/critic")
        return critic

    def engines(self) -> Iterator[TrainEngine]:
        """What takes updates: the train engine, and that of the critic."""
        yield self.train_engine
        if self.critic is not None:
            yield self.critic.engine

    @property
    def budget(self) -> Mapping[str, Any]:
        """The stage's budget, as compiled."""
        budget: Mapping[str, Any] = self.graph.settings["budget"]
        return budget

    @property
    def per_step(self) -> int:
        """Prompts, rows or pairs of a step."""
        return min(int(self.budget[UNIT[self.graph.kind]]), len(self.source))

    @property
    def step(self) -> int:
        """Steps taken so far."""
        return self.counters.step

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every part that may have a state, by the name that a checkpoint uses; the optimizer is the train engine's."""
        named: dict[str, Part] = {
            "policy": self.policy,
            "attention": self.policy.attention,
            "optimizer": self.train_engine,
            "source": self.source,
        }
        if self.lookahead is not None:  # after the source, which it moves; before the sampler, which counts its rows
            named["lookahead"] = self.lookahead
        yield from named.items()
        known = {id(part) for part in named.values()} | {id(self.runner.instances.get(f"{self.graph.name}/optimizer"))}
        for name, part in sorted(self.runner.instances.items()):
            if id(part) not in known:
                yield name, part

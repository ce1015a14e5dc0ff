"""A training engine that counts; see :class:`recipec_demo.spec.train_engine.Demo`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from recipec.graph import Node
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner
from recipec.runtime.protocols import Policy, TrainEngine
from recipec.runtime.training.local_engine import LocalEngine
from recipec.runtime.training.optimizer import AdamW
from recipec.spec.train_engine import Local
from recipec_demo.spec.train_engine import Demo


class DemoUpdates(TrainEngine):
    """Train by `local`; every update has the metric `demo/calls`."""

    def __init__(self, spec: Demo, context: StageContext, *, policy: Policy, optimizer: AdamW) -> None:  # noqa: ARG002 - one signature
        """Train ``policy`` by ``optimizer``."""
        self.inner = LocalEngine(Local(), context, policy=policy, optimizer=optimizer)
        self.calls = 0

    @property
    def updates(self) -> int:
        """Updates taken since the stage began."""
        return self.inner.updates

    def begin(self, updates: int) -> None:
        """Take over the policy's parameters."""
        self.inner.begin(updates)

    def set_pace(self, pace: float) -> None:
        """Set the pace of the schedule."""
        self.inner.set_pace(pace)

    def update(
        self, minibatch: Batch, nodes: tuple[Node, ...], runner: GraphRunner, *, tokens: int, step: int
    ) -> dict[str, float]:
        """Take one update and count it."""
        self.calls += 1
        return self.inner.update(minibatch, nodes, runner, tokens=tokens, step=step) | {"demo/calls": self.calls}

    def state(self) -> dict[str, Any]:
        """Return the optimizer's state."""
        return self.inner.state() | {"calls": self.calls}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.calls = int(state["calls"])
        self.inner.load({name: value for name, value in state.items() if name != "calls"})

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight under each of its names."""
        return self.inner.weights()

    def save(self, folder: Path) -> None:
        """Write the policy."""
        self.inner.save(folder)

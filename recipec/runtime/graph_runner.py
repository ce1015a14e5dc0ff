"""Running is walking the graph: each node is built once of its spec and its parts, and called with its inputs."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recipec.component import Component
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Input, Node, Value
from recipec.runtime.context import StageContext
from recipec.runtime.user_code import place_in
from recipec.signals import SIGNALS

METRIC = "metric/"
Values = dict[Value, Any]
Call = Callable[..., dict[str, Any]]


def build_part(spec: Component, context: StageContext, parts: Mapping[str, Any]) -> Any:
    """Build the class behind a spec of what it ``uses``; a part that the stage lacks is left to its default."""
    used = {name: parts[name] for name in spec.uses if parts.get(name) is not None}
    return spec.load()(spec, context, **used)


def bind(spec: Component, context: StageContext, parts: Mapping[str, Any]) -> Callable[..., dict[str, Any]]:
    """Return the function behind a spec with its parameters bound, or the instance of its class."""
    target = spec.load()
    if inspect.isclass(target):
        made: Callable[..., dict[str, Any]] = build_part(spec, context, parts)
        return made
    params = spec.params()
    return lambda *columns: target(*columns, **params)


class GraphRunner:
    """The nodes of one stage, each bound once to its function or instance."""

    def __init__(
        self, context: StageContext, nodes: Iterable[Node] = (), built: Mapping[str, Any] | None = None
    ) -> None:
        """Take the stage's nodes, and those instances, by node id, that are built by more than spec and parts."""
        self.context = context
        self.nodes = {node.id: node for node in nodes}
        self.instances: dict[str, Any] = dict(built or {})
        """Parts of the stage by node id; every class that an ``impl`` names is a :class:`Part`."""
        self.recorded: dict[str, Tensor] = {}
        """Rewards of this step as an interrupted attempt wrote them down, by node id."""
        self._calls: dict[str, Call] = {}

    def call(self, node: Node, values: Values, *, step: int = 0, attempt: int = 0) -> dict[str, Any]:
        """Run one node: store its outputs in ``values``, return its metrics."""
        if node.id not in self._calls:
            self._calls[node.id] = self._bind(node)
        columns = {_name(given): values[given.value] for given in node.inputs}
        draws = {"step": step, "attempt": attempt} if node.spec is not None and node.spec.draws else {}
        call = partial(self._calls[node.id], columns, **draws)
        try:
            # a reward may ask a clock, a process or a service
            made = self.context.ranks.on_leader(call) if node.slot == "reward" else call()
        except RecipeError as refused:
            raise RecipeError(*(_placed(found, node, self.context) for found in refused.diagnostics)) from refused
        if node.id in self.recorded:
            made["reward_R"] = replayed(made["reward_R"], self.recorded[node.id])
        for signal in columns_of(node):
            values[Value(signal, node.id)] = made[signal]
        return {name.removeprefix(METRIC): value for name, value in made.items() if name.startswith(METRIC)}

    def run(self, nodes: Iterable[Node], values: Values, *, step: int = 0, attempt: int = 0) -> dict[str, Any]:
        """Run nodes in order; return their metrics together."""
        metrics: dict[str, Any] = {}
        for node in nodes:
            for name, value in self.call(node, values, step=step, attempt=attempt).items():
                added = name in metrics and node.slot == "reward"  # levels of one kind count the same things
                metrics[name] = metrics[name] + value if added else value
        return metrics

    def instance(self, node: Node) -> Any:
        """Return the instance of a node with a class, built on first use from its spec and its parts."""
        if node.id not in self.instances:
            assert node.spec is not None, node.id
            self.instances[node.id] = build_part(node.spec, self.context, self.parts_of(node))
        return self.instances[node.id]

    def parts_of(self, node: Node) -> dict[str, Any]:
        """Return what a node is built from, by parameter."""
        return {given.parameter: self.instance(self.nodes[given.value.node]) for given in node.parts}

    def close(self) -> None:
        """Release what the instances hold: processes, caches."""
        for part in self.instances.values():
            part.close()

    def _bind(self, node: Node) -> Call:
        if node.id in self.instances:
            return _positional(self.instances[node.id], _order(node))
        if node.spec is None:
            module, _, name = node.impl.partition(":")
            function = getattr(importlib.import_module(module), name)
            params = dict(node.params)
            return lambda columns: function(*columns.values(), **params)
        if inspect.isclass(node.spec.load()):
            return _positional(self.instance(node), _order(node))
        return _positional(bind(node.spec, self.context, {}), node.spec.parameters())


def _placed(found: Diagnostic, node: Node, context: StageContext) -> Diagnostic:
    """Point what a component is refused for at its key, unless it names one, and at the user's code that it quotes."""
    spans = found.spans or place_in(found.message, context.use, context.root)
    path = found.path or (node.id.partition("/")[2] if node.spec is not None else "")
    return replace(found, spans=spans, path=path)


def columns_of(node: Node) -> tuple[str, ...]:
    """Return the outputs of a node that have values; a feature is a fact about it."""
    return tuple(signal for signal in node.outputs if SIGNALS[signal].kind != "feature")


def replayed(reward_R: Tensor, recorded_R: Tensor) -> Tensor:
    """Let a row time out if and only if it did before: a resumed step must not depend on the clock.

    >>> nan = float("nan")
    >>> replayed(torch.tensor([1.0, nan, 0.5]), torch.tensor([nan, 1.0, 0.5]))
    tensor([   nan, 1.0000, 0.5000])
    """
    clocked_R = reward_R.isnan() | recorded_R.isnan()
    return torch.where(clocked_R, recorded_R, reward_R)


def _name(given: Input) -> str:
    """Several inputs may fill one parameter of a sum: their producers tell them apart."""
    return f"{given.parameter}@{given.value.node}" if given.parameter.startswith("*") else given.parameter


def _order(node: Node) -> tuple[str, ...]:
    """Name a component's columns in order: its own, then those that the compiler adds."""
    assert node.spec is not None, node.id
    own = node.spec.parameters()
    return (*own, *(given.parameter for given in node.inputs if given.parameter not in own))


def _positional(function: Callable[..., dict[str, Any]], parameters: tuple[str, ...]) -> Call:
    return lambda columns, **draws: function(*(columns.get(name) for name in parameters), **draws)

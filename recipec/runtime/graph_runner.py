"""Running is walking the graph: each node is built once of its spec and its parts, and called with its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recipec.component import Component, load_object
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Node, Value
from recipec.runtime.context import StageContext
from recipec.runtime.user_code import place_in
from recipec.signals import SIGNALS

METRIC = "metric/"
Values = dict[Value, Any]
NodeFunction = Callable[..., dict[str, Any]]


def build_part(spec: Component, context: StageContext, parts: Mapping[str, Any]) -> Any:
    """Build the class behind a spec of what it ``uses``; a part that the stage lacks is left to its default."""
    used = {name: parts[name] for name in spec.uses if parts.get(name) is not None}
    return spec.load()(spec, context, **used)


def bind(spec: Component, context: StageContext, parts: Mapping[str, Any]) -> NodeFunction:
    """Return the function behind a spec with its parameters bound, or the instance of its class.

    Either takes its columns by name.
    """
    target = spec.load()
    if inspect.isclass(target):
        instance: NodeFunction = build_part(spec, context, parts)
        return instance
    return partial(target, **spec.params())


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
        self.step_values: Values = {}
        """What the nodes of a step made, in their order, while its updates are taken."""
        self._functions: dict[str, NodeFunction] = {}

    def call(self, node: Node, values: Values, *, step: int = 0, attempt: int = 0) -> dict[str, Any]:
        """Run one node: store its outputs in ``values``, return its metrics."""
        if node.id not in self._functions:
            self._functions[node.id] = self._bind(node)
        draws = {"step": step, "attempt": attempt} if node.spec is not None and node.spec.draws else {}
        call = partial(self._functions[node.id], **arguments(node, values), **draws)
        with located_at(node, self.context):
            # a reward may ask a clock, a process or a service
            outputs = self.context.ranks.on_leader(call) if node.slot == "reward" else call()
        if node.id in self.recorded:
            outputs["reward_R"] = replayed(outputs["reward_R"], self.recorded[node.id])
        for signal in columns_of(node):
            values[Value(signal, node.id)] = outputs[signal]
        return {name.removeprefix(METRIC): value for name, value in outputs.items() if name.startswith(METRIC)}

    def run(self, nodes: Iterable[Node], values: Values, *, step: int = 0, attempt: int = 0) -> dict[str, Any]:
        """Run nodes in order; return their metrics together."""
        metrics: dict[str, Any] = {}
        for node in nodes:
            for name, value in self.call(node, values, step=step, attempt=attempt).items():
                added = name in metrics and node.slot == "reward"  # levels of one kind count the same things
                metrics[name] = metrics[name] + value if added else value
        return metrics

    def instance(self, node: Node) -> Any:
        """Return the instance of a node with a class, built on first use from its spec and its parts.

        That of a node of the compiler is built from its parameters.
        """
        if node.id not in self.instances:
            if node.spec is None:
                self.instances[node.id] = load_object(node.impl)(**node.params)
            else:
                self.instances[node.id] = build_part(node.spec, self.context, self.parts_of(node))
        return self.instances[node.id]

    def parts_of(self, node: Node) -> dict[str, Any]:
        """Return what a node is built from, by parameter."""
        return {part.parameter: self.instance(self.nodes[part.value.node]) for part in node.parts}

    def close(self) -> None:
        """Release what the instances hold: processes, caches."""
        for part in self.instances.values():
            part.close()

    def _bind(self, node: Node) -> NodeFunction:
        if node.id in self.instances:
            function: NodeFunction = self.instances[node.id]
        elif inspect.isclass(load_object(node.impl)):
            function = self.instance(node)
        elif node.spec is None:
            function = partial(load_object(node.impl), **node.params)
        else:
            function = bind(node.spec, self.context, {})
        return function


def arguments(node: Node, values: Values) -> dict[str, Any]:
    """Return what a node is called with, by parameter.

    A parameter is ``None`` where the condition of its requirement does not hold, and a list where it takes several
    inputs.
    """
    named: dict[str, Any] = {} if node.spec is None else dict.fromkeys(node.spec.parameters())
    for column in node.inputs:
        value = values[column.value]
        if column.parameter.startswith("*"):
            named.setdefault(column.parameter[1:], []).append(value)
        else:
            named[column.parameter] = value
    return named


@contextmanager
def located_at(node: Node, context: StageContext) -> Iterator[None]:
    """Let what is refused inside point at the node's key, unless it names one."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(*(_placed(one, node, context) for one in error.diagnostics)) from error


def _placed(diagnostic: Diagnostic, node: Node, context: StageContext) -> Diagnostic:
    """Point what a component is refused for at its key, unless it names one, and at the user's code that it quotes."""
    spans = diagnostic.spans or place_in(diagnostic.message, context.use, context.root)
    path = diagnostic.path or (node.name if node.spec is not None else "")
    return replace(diagnostic, spans=spans, path=path)


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

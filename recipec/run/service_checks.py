"""Check services, environments, knowledge graphs and images of unfinished stages, before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from recipec.component import load_object
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph
from recipec.run.artifacts import RunFolder
from recipec.run.extras import runtime_packages
from recipec.run.options import Options
from recipec.run.preflight import PreflightRequest, Used, components


def check_services(graph: Graph, folder: RunFolder, options: Options) -> None:
    """Refuse a run in which a component's ``preflight`` finds something missing; finished stages need nothing.

    Raises:
        RecipeError: all that was found, each with its place.
    """
    unfinished = {s.name for s in graph.stages if options.replace or not (folder.stage(s.name) / "policy").exists()}
    wanted = [one for one in components(graph) if one.spec.preflight and one.stages & unfinished]
    if found := [problem for one in wanted for problem in _problems(graph, one, options)]:
        raise RecipeError(*found)


def _problems(graph: Graph, one: Used, options: Options) -> Iterator[Diagnostic]:
    services = {name: str(service["url"]) for name, service in (graph.machine.get("services") or {}).items()}
    device = str(graph.machine.get("device") or "auto")
    request = PreflightRequest(options.root, services, device, one.splits, one.sees)
    with runtime_packages():
        check = load_object(one.spec.preflight)
    for found in check(one.spec, request):
        key = f"{one.key}.{found.path}" if found.path else one.key
        spans = (*found.spans, *(options.locate(key) or options.locate(f"{one.key}.type")))
        yield replace(found, spans=spans, path=key)

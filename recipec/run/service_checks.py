"""What unfinished stages need of services, environments, knowledge graphs and images, before a model loads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.graph import Graph
from recipec.run.artifacts import RunFolder
from recipec.run.extras import runtime_packages
from recipec.run.options import Options
from recipec.run.preflight import environments, http_retrievers, image_datasets, knowledge_graphs


def check_services(graph: Graph, folder: RunFolder, options: Options) -> None:
    """Refuse a run with services that do not answer, or with missing parts of environments, graphs or images.

    Finished stages need none of them.

    Raises:
        RecipeError: RC716; RC803, RC804; RC870 to RC880; what an environment's ``preflight`` finds, with their place.
    """
    unfinished = {s.name for s in graph.stages if options.replace or not (folder.stage(s.name) / "policy").exists()}
    urls = {name: str(service["url"]) for name, service in (graph.machine.get("services") or {}).items()}
    found = [*_retriever_errors(graph, unfinished, options, urls), *_environment_errors(graph, unfinished, options)]
    if not found:
        found = [*_knowledge_errors(graph, unfinished, options, urls), *_image_errors(graph, unfinished, options)]
    if found:
        first = {one.message: one for one in reversed(found)}  # several stages may need the same service
        raise RecipeError(*reversed(first.values()))


def _retriever_errors(
    graph: Graph, unfinished: set[str], options: Options, urls: Mapping[str, str]
) -> Iterator[Diagnostic]:
    for stage, key, retriever in http_retrievers(graph):
        if stage in unfinished:
            with runtime_packages():
                from recipec.runtime.environment.retrieval.retriever import probe  # noqa: PLC0415
            for found in probe(retriever, urls):
                yield replace(found, spans=tuple(options.locate(key)), path=key)


def _environment_errors(graph: Graph, unfinished: set[str], options: Options) -> Iterator[Diagnostic]:
    for stage, key, params, splits in environments(graph):
        if stage in unfinished:
            with runtime_packages():
                from recipec.runtime.environment.preflight import check  # noqa: PLC0415
            for found in check(params, options.root, splits):
                spans = (*found.spans, *options.locate(f"{key}.type"))
                yield replace(found, spans=spans, path=found.path or key)


def _knowledge_errors(
    graph: Graph, unfinished: set[str], options: Options, urls: Mapping[str, str]
) -> Iterator[Diagnostic]:
    for stage, key, params in knowledge_graphs(graph):
        if stage in unfinished:
            with runtime_packages():
                from recipec.runtime.knowledge.preflight import check  # noqa: PLC0415
            for found in check(params, options.root, urls):
                at = f"{key}.{found.path}" if found.path else key
                spans = (*found.spans, *(options.locate(at) or options.locate(f"{key}.type")))
                yield replace(found, spans=spans, path=at)


def _image_errors(graph: Graph, unfinished: set[str], options: Options) -> Iterator[Diagnostic]:
    """Yield, of each data file, the first image that cannot be opened."""
    for stage, params in image_datasets(graph):
        if stage in unfinished:
            with runtime_packages():
                from recipec.runtime.images.preflight import check  # noqa: PLC0415
            if (found := check(params, options.root)) is not None:
                yield found

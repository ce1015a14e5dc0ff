"""Checks of a knowledge graph before a model is loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.context import StageContext, cache_folder
from recipec.runtime.data import templates
from recipec.spec.knowledge import Extract, Knowledge


def check(spec: Knowledge, request: PreflightRequest) -> list[Diagnostic]:
    """Return the errors of a knowledge graph; a graph that needs no policy is built and kept in the cache.

    Where a model will extract it from documents, the documents and the template are checked.
    """
    root = request.root
    context = StageContext(root=root, cache=cache_folder(), seed=0, stage="", services=request.services)
    try:
        if isinstance(spec, Extract):
            return _documents(spec, root)
        graph = spec.load()(spec, context)
        try:
            _ = graph.size  # reads the names too, which may be too many for a service
        finally:
            graph.close()
    except RecipeError as error:
        return [replace(diagnostic, path=diagnostic.path.partition(".")[2]) for diagnostic in error.diagnostics]
    return []


def _documents(spec: Extract, root: Path) -> list[Diagnostic]:
    from recipec.runtime.knowledge.extract import documents  # noqa: PLC0415 - it imports models

    documents(spec, root)
    return templates.choose(root, spec.prompt)

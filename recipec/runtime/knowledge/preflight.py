"""What a graph of facts needs, looked at before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipec.component import find_component
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.runtime.context import StageContext, cache_folder
from recipec.runtime.data import templates
from recipec.spec.knowledge import Extract


def check(params: Mapping[str, Any], root: Path, services: Mapping[str, str]) -> list[Diagnostic]:
    """Return what is wrong with a graph; what can be built before a policy is there is built, and kept in the cache.

    Of documents that a model will read, the texts and the template are looked at.
    """
    cls = find_component("knowledge", str(params["type"]))
    assert cls is not None, params
    spec = cls.model_validate(dict(params))
    context = StageContext(root=root, cache=cache_folder(), seed=0, stage="", services=dict(services))
    try:
        if isinstance(spec, Extract):
            return _documents(spec, root)
        graph = spec.load()(spec, context)
        try:
            _ = graph.size  # its names are read, too: of a service they may be too many
        finally:
            graph.close()
    except RecipeError as refused:
        return [replace(found, path=found.path.partition(".")[2]) for found in refused.diagnostics]
    return []


def _documents(spec: Extract, root: Path) -> list[Diagnostic]:
    from recipec.runtime.knowledge.extract import documents  # noqa: PLC0415 - it brings models

    documents(spec, root)
    return templates.choose(root, spec.prompt)

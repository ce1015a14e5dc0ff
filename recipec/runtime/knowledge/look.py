"""What a graph of facts needs, looked at before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipec.component import find
from recipec.diagnostics import Diagnostic, Refused
from recipec.faults import data as data_faults
from recipec.render import template_problem
from recipec.runtime.setting import Setting, cache_folder
from recipec.spec.knowledge import Extract


def look(knobs: Mapping[str, Any], root: Path, services: Mapping[str, str]) -> list[Diagnostic]:
    """Return what is wrong with a graph; what can be built before a policy is there is built, and kept in the cache.

    Of documents that a model will read, the texts and the template are looked at.
    """
    cls = find("knowledge", str(knobs["type"]))
    assert cls is not None, knobs
    spec = cls.model_validate(dict(knobs))
    setting = Setting(root=root, cache=cache_folder(), seed=0, stage="", services=dict(services))
    try:
        if isinstance(spec, Extract):
            return _documents(spec, root)
        graph = spec.load()(spec, setting)
        try:
            _ = graph.size  # its names are read, too: of a service they may be too many
        finally:
            graph.close()
    except Refused as refused:
        return [replace(found, path=found.path.partition(".")[2]) for found in refused.diagnostics]
    return []


def _documents(spec: Extract, root: Path) -> list[Diagnostic]:
    from recipec.runtime.knowledge.extract import documents  # noqa: PLC0415 - it brings models

    documents(spec, root)
    if spec.prompt is None:
        return []
    try:
        text = (root / spec.prompt).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        return [data_faults.data_missing(spec.prompt, problem)]
    found = template_problem(text, spec.prompt)
    return [] if found is None else [found]

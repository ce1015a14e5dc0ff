"""Licences of what a model was made from, as the cards of models and datasets state them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recipec.host.small_files import read_small
from recipec.spec.recipe import distribution_of, weights_kind

NOT_STATED = "not stated"
_KEYS = ("license_name", "license")
"""The first one is the name of a licence that no list has, where `license` is `other`."""


def licences(stages: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield what initial weights and data of the hub and of packages are called, and their licence.

    Cards of the hub are read from the local cache; nothing is fetched.  Files and folders have no place for a licence.
    """
    names = {str(stage["name"]) for stage in stages}
    seen: set[str] = set()
    for stage in stages:
        for name, kind in ((str(stage["origin"]), "model"), *((hub, "dataset") for hub in _datasets(stage))):
            if name in names or name in seen:
                continue
            seen.add(name)
            if kind == "dataset" or weights_kind(name) == "hub":
                yield name, _of_hub(name, kind)
            elif weights_kind(name) == "package":
                yield name, _of_package(distribution_of(name))


def data_of(stage: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of the data of a stage, as ``graph.json`` has it."""
    inside = [node for item in stage["loop"]["body"] for node in (item.get("body") or [item])]
    yield from (node["params"] for node in (*inside, *stage["before"]) if node.get("slot") == "data")


def _datasets(stage: Mapping[str, Any]) -> Iterator[str]:
    for params in data_of(stage):
        sources = (params.get("sources") or {"": params}).values()
        yield from (str(source["hub"]) for source in sources if source.get("hub"))


def _of_hub(name: str, kind: str) -> str:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - only exports of such models need it

    repository, _, revision = name.partition("@")
    path = try_to_load_from_cache(repository, "README.md", revision=revision or None, repo_type=kind)
    return stated(Path(path)) if isinstance(path, str) else NOT_STATED


def _of_package(name: str) -> str:
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return NOT_STATED
    values = (str(about[key]) for key in ("License-Expression", "License") if key in about)
    return next((name.partition("\n")[0] for name in values if name), NOT_STATED)


def stated(card: Path) -> str:
    r"""Return the licence in the head of a card.

    >>> import tempfile
    >>> card = Path(tempfile.mkdtemp()) / "README.md"
    >>> _ = card.write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    >>> stated(card)
    'apache-2.0'
    """
    try:
        lines = read_small(card).splitlines()
    except (OSError, UnicodeDecodeError):
        return NOT_STATED
    if not lines or lines[0].strip() != "---" or "---" not in lines[1:]:
        return NOT_STATED
    head = dict(line.split(":", 1) for line in lines[1 : lines.index("---", 1)] if ":" in line)
    values = (head.get(key, "").strip().strip("'\"") for key in _KEYS)
    return next((name for name in values if name), NOT_STATED)

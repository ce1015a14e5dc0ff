"""Where the weights of a policy come from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from recipec.runtime.context import StageContext
from recipec.runtime.model import lora, package_weights, weights
from recipec.spec.recipe import weights_kind


@dataclass(frozen=True, slots=True)
class Origin:
    """Where weights come from, as ``from:`` says it; stages are directories by now.

    Example: ``Origin("directory", "runs/a/stages/explore/policy", adapter="continue")``.
    """

    kind: Literal["scratch", "directory", "hub", "package"]
    name: str = ""
    """Directory, ``org/name[@revision]``, or ``DIST[/FILE.gguf]``."""
    adapter: Literal["continue", "merge"] | None = None
    """What becomes of the adapter found there, or in ``adapter_path``."""
    adapter_path: Path | None = None


def origin_of(name: str, context: StageContext) -> Origin:
    """Return where the weights come from that a parameter of a stage names; those of a stage are its artifact."""
    kind = weights_kind(name)
    if kind == "stage":
        return Origin("directory", str(context.artifacts[f"{name}.policy"].resolve()))
    return Origin(kind, name)


def merged(origin: Origin, context: StageContext) -> Origin:
    """Let an adapter that is found with weights become a part of them."""
    if origin.kind == "scratch":
        return origin
    adapted = origin.adapter_path is not None or (folder_of(origin, context) / lora.CONFIG).exists()
    return replace(origin, adapter="merge" if adapted else None)


def folder_of(origin: Origin, context: StageContext) -> Path:
    """Return the local directory of weights that are not new ones, fetched or converted where that is needed."""
    if origin.kind == "package":
        return package_weights.locate(origin.name, context.cache)
    if origin.kind == "hub":
        return weights.fetch(origin.name)
    return context.root / origin.name

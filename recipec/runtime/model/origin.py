"""Where the weights of a policy come from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recipec.runtime.context import StageContext
from recipec.runtime.model import package_weights, weights


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


def folder_of(origin: Origin, context: StageContext) -> Path:
    """Return the local directory of weights that are not new ones, fetched or converted where that is needed."""
    if origin.kind == "package":
        return package_weights.locate(origin.name, context.cache)
    if origin.kind == "hub":
        return weights.fetch(origin.name)
    return context.root / origin.name

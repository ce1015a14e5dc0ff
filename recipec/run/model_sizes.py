"""Sizes of the models that the stages of a recipe start from, as far as files tell them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recipec.graph import Graph
from recipec.host.small_files import read_small
from recipec.planning.model_shapes import Shape
from recipec.planning.stage_workload import shapes_of


def stage_shapes(graph: Graph, root: Path) -> dict[str, Shape | None]:
    """Return the sizes of each stage's model; ``root`` is the folder that directories of weights are in."""
    return shapes_of(graph, lambda origin: json_object(root / origin / "config.json"))


def json_object(path: Path) -> Mapping[str, Any]:
    """Read a small JSON object; an empty one where there is none."""
    try:
        parsed = json.loads(read_small(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}

"""What an environment needs, looked at before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipec.component import find_component
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.runtime.data import templates


def check(params: Mapping[str, Any], root: Path, splits: Sequence[str]) -> list[Diagnostic]:
    """Return what an environment finds missing: its class may have ``preflight(spec, root, splits)``, which refuses.

    A template of the user's is looked at, too.

    ``splits`` are those of its own tasks that the recipe asks for; paths of its parameters are relative to ``root``.
    """
    cls = find_component("environment", str(params["type"]))
    assert cls is not None, params
    spec = cls.model_validate(dict(params))
    check = getattr(spec.load(), "preflight", None)
    found = templates.choose(root, getattr(spec, "template", None))
    try:
        if check is not None:
            check(spec, root, splits)
    except RecipeError as refused:
        found += refused.diagnostics
    return found

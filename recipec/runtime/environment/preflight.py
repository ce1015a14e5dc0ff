"""What an environment needs, looked at before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipec.component import find
from recipec.diagnostics.model import Diagnostic, Refused
from recipec.runtime.data import templates


def look(knobs: Mapping[str, Any], root: Path, splits: Sequence[str]) -> list[Diagnostic]:
    """Return what an environment finds missing: its class may have ``preflight(spec, root, splits)``, which refuses.

    A template of the user's is looked at, too.

    ``splits`` are those of its own tasks that the recipe asks for; paths of its knobs are relative to ``root``.
    """
    cls = find("environment", str(knobs["type"]))
    assert cls is not None, knobs
    spec = cls.model_validate(dict(knobs))
    check = getattr(spec.load(), "preflight", None)
    found = templates.look(root, getattr(spec, "template", None))
    try:
        if check is not None:
            check(spec, root, splits)
    except Refused as refused:
        found += refused.diagnostics
    return found

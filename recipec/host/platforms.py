"""What is different on Windows and macOS; runs were only tried on Linux."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recipec.diagnostics.errors.machine import not_on_windows
from recipec.diagnostics.model import Diagnostic, RecipeError

if TYPE_CHECKING:
    from recipec.graph import Graph

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that no file of Windows can have."""


def windows() -> bool:
    """Whether this is Windows, where a process has no group and no limits, and a folder cannot be synced."""
    return sys.platform == "win32"


def syncable(path: os.PathLike[str]) -> bool:
    """Whether a path can be made durable by itself: on Windows, a folder cannot."""
    return not (windows() and os.path.isdir(path))  # noqa: PTH112 - of any path


def refuse_windows(what: str) -> None:
    """Refuse what needs processes of POSIX.

    Raises:
        RecipeError: RC979, this is Windows.
    """
    if windows():
        raise RecipeError(not_on_windows(what))


def windows_problems(graph: Graph) -> Iterator[Diagnostic]:
    """Yield RC979 for what the run directory or the launcher of a recipe cannot be on Windows; nothing elsewhere."""
    if not windows():
        return
    if int(graph.machine.get("nodes") or 1) * int(graph.machine.get("devices") or 1) > 1:
        yield not_on_windows("a run of several devices", "machine.devices")
    for key, name in [("name", graph.name), *((f"stages.{stage.name}", stage.name) for stage in graph.stages)]:
        if _RESERVED.fullmatch(name) or name.endswith("."):
            yield not_on_windows(f"a directory with the name `{name}`", key)

"""File names of a recipe, all made relative to the recipe's own directory.

A path is relative to the file that holds it; one given by ``--set`` is relative to the recipe.
What ships with the package keeps its ``recipec:`` name, and absolute paths stay as they are.
Nothing here looks at the disk.
"""

from __future__ import annotations

import posixpath

from recipec.diagnostics.model import COMMAND_LINE
from recipec.package_files import SHIPPED


def rebased(value: str, source: str, root: str) -> str:
    """Return ``value``, set in the file ``source``, relative to the directory of the file ``root``.

    >>> rebased("prompts/a.j2", "recipes/shared/base.yaml", "recipes/mine.yaml")
    'shared/prompts/a.j2'
    >>> rebased("../data/a.jsonl", "recipes/shared/base.yaml", "recipes/mine.yaml")
    'data/a.jsonl'
    >>> rebased("prompts/a.j2", "recipec:algorithms/grpo", "mine.yaml")
    'recipec:algorithms/prompts/a.j2'
    """
    if not value or value.startswith(("/", SHIPPED)) or source == COMMAND_LINE:
        return value
    folder, home = posixpath.dirname(source.replace("\\", "/")), posixpath.dirname(root.replace("\\", "/"))
    if folder == home:
        return value
    if folder.startswith(SHIPPED):
        return SHIPPED + posixpath.normpath(posixpath.join(folder.removeprefix(SHIPPED), value))
    return _relative(posixpath.join(folder, value), home)


def origin(value: str, source: str, root: str) -> str:
    """Do the same for what names a directory only when it begins with ``./`` or ``../``.

    >>> origin("./tok", "shared/base.yaml", "mine.yaml"), origin("Qwen/Qwen3-0.6B", "shared/base.yaml", "mine.yaml")
    ('./shared/tok', 'Qwen/Qwen3-0.6B')
    """
    if not value.startswith(("./", "../")):
        return value
    moved = rebased(value, source, root)
    return moved if moved.startswith(("../", "/", SHIPPED)) else f"./{posixpath.normpath(moved)}"


def _relative(path: str, start: str) -> str:
    path, start = posixpath.normpath(path), posixpath.normpath(start or ".")
    if path.startswith("/") != start.startswith("/"):
        return path
    have = [part for part in path.split("/") if part not in {"", "."}]
    base = [part for part in start.split("/") if part not in {"", "."}]
    while have and base and have[0] == base[0] and have[0] != "..":
        have, base = have[1:], base[1:]
    if ".." in base:  # above the known folders: only the absolute path is clear
        return path
    return "/".join([".."] * len(base) + have) or "."

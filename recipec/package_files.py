"""Paths of the files that ship with the package, and their names in recipes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

SHIPPED = "recipec:"
_PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """Return ``recipes``, ``schemas`` or ``templates``: the checkout's where there is one, else the package's copy.

    >>> shipped("recipes").name
    'recipes'
    """
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / folder).is_dir():
        return checkout / folder
    return _PACKAGE / "_data" / folder


@cache
def shipped_templates() -> tuple[str, ...]:
    """Return the names that recipes give to the chat templates of the package.

    >>> "recipec:chat/chatml" in shipped_templates()
    True
    """
    return tuple(sorted(f"{SHIPPED}chat/{file.stem}" for file in (shipped("templates") / "chat").glob("*.j2")))


def named_file(root: Path, name: str) -> Path:
    """Return the file that a recipe in ``root`` names: one of its own, or a chat template of the package.

    >>> named_file(Path("a"), "b.j2").as_posix(), named_file(Path("a"), "recipec:chat/chatml").name
    ('a/b.j2', 'chatml.j2')
    """
    return shipped("templates") / f"{name.removeprefix(SHIPPED)}.j2" if name in shipped_templates() else root / name

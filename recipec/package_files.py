"""Paths of the files that ship with the package, and their names in recipes."""

from __future__ import annotations

from functools import cache
from os.path import normpath
from pathlib import Path

SHIPPED = "recipec:"
_PACKAGE = Path(__file__).resolve().parent


def shipped(folder: str) -> Path:
    """Return ``recipes``, ``schemas``, ``templates`` or ``docs``: those of the checkout, or the package's copy.

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
    """Return the file that a recipe in ``root`` names: its own, a chat template or a file of a fragment of the package.

    >>> named_file(Path("a"), "b.j2").as_posix(), named_file(Path("a"), "recipec:chat/chatml").name
    ('a/b.j2', 'chatml.j2')
    >>> named_file(Path("a"), "recipec:tiny/prompts/spell.j2").is_file()
    True
    """
    if name in shipped_templates():
        return shipped("templates") / f"{name.removeprefix(SHIPPED)}.j2"
    file = Path(normpath(shipped("recipes") / name.removeprefix(SHIPPED)))
    inside = any(file.is_relative_to(shipped(folder)) for folder in ("recipes", "templates"))
    return file if name.startswith(SHIPPED) and inside else root / name

"""Paths of the files that ship with the package."""

from __future__ import annotations

from pathlib import Path

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

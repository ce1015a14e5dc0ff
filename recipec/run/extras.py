"""Imports of the runtime; the packages it needs are extras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from recipec.diagnostics.errors.data import package_missing
from recipec.diagnostics.model import RecipeError


@contextmanager
def runtime_packages() -> Iterator[None]:
    """Import from the runtime inside: a package it needs may be missing.

    Raises:
        RecipeError: RC716, naming the package.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("recipec"):
            raise
        raise RecipeError(package_missing(missing.name, "train")) from missing

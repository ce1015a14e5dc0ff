"""Imports of the runtime; the packages it needs are extras."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

from recipec.diagnostics.errors.data import package_missing
from recipec.diagnostics.model import Diagnostic, RecipeError

_RUNTIME = ("torch", "transformers", "peft", "safetensors", "numpy", "tensorboard")
"""Packages of the extra `train` without which no stage runs."""


def missing_runtime() -> Iterator[Diagnostic]:
    """Yield RC716 for the packages of the extra `train` that are not installed, as one diagnostic."""
    missing = [name for name in _RUNTIME if importlib.util.find_spec(name) is None]
    if missing:
        yield package_missing("`, `".join(missing), "train")


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

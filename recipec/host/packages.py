"""Installed packages: those that the runtime needs are extras, and what is missing is named before it is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from recipec.diagnostics.errors.data import package_missing
from recipec.diagnostics.model import Diagnostic, RecipeError

_VERSIONED = ("recipec", "torch", "transformers", "peft")
_RUNTIME = ("torch", "transformers", "peft", "safetensors", "numpy", "tensorboard")
"""Packages of the extra `train` without which no stage runs."""


def missing_runtime() -> Iterator[Diagnostic]:
    """Yield RC716 for the packages of the extra `train` that are not installed, as one diagnostic."""
    missing = [name for name in _RUNTIME if importlib.util.find_spec(name) is None]
    if missing:
        yield package_missing("`, `".join(missing), "train")


def missing_launcher(machine: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """Yield RC716 if Ray is to start the processes of a run and is not installed.

    >>> [one.code for one in missing_launcher({"launcher": "torchrun", "nodes": 2, "devices": 1})]
    []
    """
    ranks = int(machine.get("nodes") or 1) * int(machine.get("devices") or 1)
    if machine.get("launcher") == "ray" and ranks > 1 and importlib.util.find_spec("ray") is None:
        yield replace(package_missing("ray", "ray", "launcher `ray`"), path="machine.launcher")


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


def versions() -> dict[str, str]:
    """Versions of the packages that compute the numbers, without importing them.

    They are in no digest: a new version does not train a finished stage again.
    """
    return {name: version(name) for name in _VERSIONED}


def version(distribution: str) -> str:
    """Return the version of an installed package, or ``absent``."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"

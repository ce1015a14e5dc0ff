"""Weights that a Python package carries: found in its list of files, never by importing it."""

from __future__ import annotations

from pathlib import Path


def locate(name: str, cache: Path) -> Path:
    """Return a directory with the model that ``DIST[/FILE.gguf]`` names."""
    raise NotImplementedError

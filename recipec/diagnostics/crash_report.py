"""Traces of our own bugs."""

from __future__ import annotations

import tempfile
from pathlib import Path


def note_crash(text: str) -> str:
    """Write the trace of a bug of ours where it can be found, and say where."""
    for folder in (Path(), Path(tempfile.gettempdir())):
        path = folder / "recipec-crash.txt"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError:
            continue
        return f"{path} says where"
    return text

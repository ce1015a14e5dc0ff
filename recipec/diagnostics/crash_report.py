"""Tracebacks of internal errors."""

from __future__ import annotations

import tempfile
from pathlib import Path


def note_crash(text: str) -> str:
    """Write the traceback of an internal error to a file, and return a sentence with its path."""
    for folder in (Path(), Path(tempfile.gettempdir())):
        path = folder / "recipec-crash.txt"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError:
            continue
        return f"{path} says where"
    return text

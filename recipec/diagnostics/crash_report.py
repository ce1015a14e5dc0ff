"""Tracebacks of internal errors."""

from __future__ import annotations

import os
import tempfile


def note_crash(text: str) -> str:
    """Write the traceback of an internal error to a file, and return a sentence with its path."""
    try:
        # a new file with a name of its own: one that is there may be a link to something else
        handle, name = tempfile.mkstemp(prefix="recipec-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
    except OSError:
        return text
    return f"{name} says where"

"""Images that a parquet file holds itself: written to the cache once, under the hash of their content.

Rows then name them as they name files, so that everything after reading a row treats both alike.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError

EMBEDDED = "embedded:"
"""What the name of an embedded image begins with; the hash of its bytes follows."""


def unread(data: bytes) -> str:  # noqa: ARG001 - one of two ways to name an image
    """Name an image that is not read."""
    return EMBEDDED


def named_images(
    columns: Mapping[str, Any], read: Collection[str] = (), keep: Callable[[bytes], str] = unread
) -> dict[str, Any]:
    """Return the columns of a row with names in place of images: those of the columns ``read`` are given to ``keep``.

    An image is the struct of ``bytes`` and ``path`` of the library ``datasets``, or in the columns ``read`` the bytes
    alone. Without bytes, its path is its name.

    >>> named_images({"image": {"bytes": None, "path": "a.png"}, "more": [{"bytes": b"GIF8", "path": None}]})
    {'image': 'a.png', 'more': ['embedded:']}
    """
    return {
        name: _named(value, keep, plain=True) if name in read else _named(value, unread, plain=False)
        for name, value in columns.items()
    }


def _named(value: Any, keep: Callable[[bytes], str], *, plain: bool) -> Any:
    if isinstance(value, list):
        return [_named(one, keep, plain=plain) for one in value]
    if isinstance(value, bytes) and plain:
        return keep(value)
    if isinstance(value, dict) and value.keys() == {"bytes", "path"}:
        data = value["bytes"]
        return keep(data) if isinstance(data, bytes) else value["path"] if data is None else value
    return value


def keep_image(folder: Path, data: bytes) -> str:
    """Write the bytes of an image into a folder, unless it has them, and return its name.

    Raises:
        RecipeError: RC761, the folder cannot be written.
    """
    digest = hashlib.sha256(data).hexdigest()
    final = folder / digest
    try:
        if not final.is_file() or final.stat().st_size != len(data):
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=folder)
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(temporary).replace(final)
    except OSError as error:
        raise RecipeError(errors.cannot_write(str(folder), error.strerror or str(error))) from error
    return EMBEDDED + digest

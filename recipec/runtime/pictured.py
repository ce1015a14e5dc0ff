"""What the images of a data set are, for the digest of a run: it changes where a picture does, not only where rows do.

No torch here: ``plan`` asks it, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recipec.diagnostics import Refused
from recipec.runtime.files import read_rows
from recipec.runtime.parts import image_names
from recipec.runtime.within import ImageError, read_within


def pictured(knobs: Mapping[str, Any], root: Path) -> str:
    """Hash the image files that the rows of data ``file`` name, in hexadecimal; what is missing or refused, as such.

    The stage itself says what is wrong with a row or an image.
    """
    digest = hashlib.sha256()
    path = root / knobs["path"]
    folder = path if path.is_dir() else path.parent
    seen = set()
    try:
        for name in _names(path, knobs):
            if name not in seen:
                seen.add(name)
                digest.update(repr((name, _hashed(folder, name))).encode("utf-8", "backslashreplace"))
    except Refused:
        return "broken"
    return digest.hexdigest()


def _names(path: Path, knobs: Mapping[str, Any]) -> Iterator[str]:
    column = str(knobs["columns"]["images"])
    for row in read_rows(path, knobs["split"], str(knobs["path"]), knobs["limit"]) if column else ():
        yield from image_names(row, column)[1]


def _hashed(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256(read_within(folder, name)).hexdigest()
    except ImageError as error:
        return error.problem

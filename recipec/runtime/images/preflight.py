"""The images of a data set before a run: whether all can be opened, and what they are, for the digest of the run.

No torch here: ``plan`` asks it, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.runtime.data.files import Row, read_rows
from recipec.runtime.images.files import ImageError, open_within, read_within
from recipec.runtime.images.parts import image_names


def digest(params: Mapping[str, Any], root: Path) -> str:
    """Hash the image files that the rows of data ``file`` name, in hexadecimal; what is missing or refused, as such.

    The stage itself says what is wrong with a row or an image.
    """
    found = hashlib.sha256()
    path = root / params["path"]
    folder = path if path.is_dir() else path.parent
    seen = set()
    try:
        for _, name in _named(path, params):
            if name not in seen:
                seen.add(name)
                found.update(repr((name, _hashed(folder, name))).encode("utf-8", "backslashreplace"))
    except RecipeError:
        return "broken"
    return found.hexdigest()


def _named(path: Path, params: Mapping[str, Any]) -> Iterator[tuple[Row, str]]:
    column = str(params["columns"]["images"])
    for row in read_rows(path, params["split"], str(params["path"]), params["limit"]) if column else ():
        for name in image_names(row, column)[1]:
            yield row, name


def _hashed(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256(read_within(folder, name)).hexdigest()
    except ImageError as error:
        return str(error)


def check(params: Mapping[str, Any], root: Path) -> Diagnostic | None:
    """Say which is the first image that rows of data ``file`` name and that cannot be opened; None if all can.

    What else is wrong with rows or images, their own stage says.
    """
    path = root / params["path"]
    folder = path if path.is_dir() else path.parent
    try:
        firsts: dict[str, Row] = {}
        for row, name in _named(path, params):
            firsts.setdefault(name, row)
    except RecipeError:
        return None
    for name, row in firsts.items():
        try:
            open_within(folder, name).close()
        except ImageError as error:
            return error.refused(row.file, row.number, name).diagnostics[0]
    return None

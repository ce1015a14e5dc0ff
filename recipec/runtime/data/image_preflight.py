"""The images of a data set before a run: whether all can be opened, and what they are, for the digest of the run.

No torch here: ``plan`` asks it, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.package_files import named_file
from recipec.runtime.data.files import Row, read_rows
from recipec.runtime.data.image_parts import image_names
from recipec.runtime.images.embedded import EMBEDDED
from recipec.runtime.images.files import ImageError, open_within, read_within
from recipec.spec.data import File


def digests(spec: File, root: Path) -> dict[str, str]:
    """Hash all image files together that the rows of data ``file`` name; what is missing or refused counts as such.

    The stage itself says what is wrong with a row or an image.
    """
    return {} if spec.path is None else {f"images of {spec.path}": _digest(spec, named_file(root, spec.path))}


def _digest(spec: File, path: Path) -> str:
    digest = hashlib.sha256()
    folder = path if path.is_dir() else path.parent
    seen = set()
    try:
        for _, name in _named(path, spec):
            if name not in seen:
                seen.add(name)
                digest.update(repr((name, _hashed(folder, name))).encode("utf-8", "backslashreplace"))
    except RecipeError:
        return "broken"
    return digest.hexdigest()


def _named(path: Path, spec: File) -> Iterator[tuple[Row, str]]:
    """Yield the files that rows name; images inside a data file are part of its own hash."""
    column = spec.columns.images
    for row in read_rows(path, spec.split, str(spec.path), spec.limit) if column else ():
        for name in image_names(row, column)[1]:
            if not name.startswith(EMBEDDED):
                yield row, name


def _hashed(folder: Path, name: str) -> str:
    try:
        return hashlib.sha256(read_within(folder, name)).hexdigest()
    except ImageError as error:
        return str(error)


def check(spec: File, request: PreflightRequest) -> Iterator[Diagnostic]:
    """Yield the first image that rows of data ``file`` name and that cannot be opened, where a policy reads them.

    What else is wrong with rows or images, their own stage says.
    """
    if spec.path is None or not request.sees:
        return
    path = named_file(request.root, spec.path)
    folder = path if path.is_dir() else path.parent
    try:
        firsts: dict[str, Row] = {}
        for row, name in _named(path, spec):
            firsts.setdefault(name, row)
    except RecipeError:
        return
    for name, row in firsts.items():
        try:
            open_within(folder, name).close()
        except ImageError as error:
            yield error.refused(row.file, row.number, name).diagnostics[0]
            return

"""Files and folders of the cache that are built once for a key and only read from then on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from filelock import FileLock

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import sync

T = TypeVar("T")
ABANDONED = 24 * 3600
"""Age in seconds from which a temporary file or folder belongs to no running process."""


def build_once(final: Path, read: Callable[[Path], T | None], build: Callable[[Path], object]) -> T:
    """Return what ``read`` finds at ``final``; where it finds nothing whole, ``build`` the file or folder first.

    ``build`` gets a temporary path of the same folder, which does not exist yet; what it leaves there takes the final
    name at once.  Processes that need the same path at the same time wait for the first.  Reading takes no lock, so a
    cache that cannot be written still serves what it has.

    Raises:
        RecipeError: RC761, the cache cannot be written; what ``build`` raises, and then nothing is left behind.
    """
    try:
        built = read(final)
        if built is None:
            final.parent.mkdir(parents=True, exist_ok=True)
            locks = final.parent.parent / ".locks"
            locks.mkdir(exist_ok=True)
            with FileLock(locks / f"{final.parent.name}-{final.name}"):
                built = read(final)
                if built is None:
                    _build(final, build)
                    built = read(final)
    except OSError as error:
        raise RecipeError(errors.cannot_write(str(final), error.strerror or str(error))) from error
    assert built is not None, final
    return built


def _build(final: Path, build: Callable[[Path], object]) -> None:
    temporary = final.with_name(f".tmp-{final.name}")
    _sweep(final.parent)
    _remove(temporary)
    try:
        build(temporary)
        sync(temporary)
        _remove(final)
        temporary.rename(final)
        sync(final.parent, deep=False)
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed long ago left unfinished."""
    for left in folder.glob(".tmp-*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                _remove(left)

"""Reading a file that data names: below the data's own folder, through no link, of a bounded size."""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from recipec.diagnostics.errors import images as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.platforms import refuse_windows

MOST_BYTES = 64 << 20
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*://|data:|[a-z]:[\\/]", re.IGNORECASE)


class ImageError(Exception):
    """An image cannot be used; the text of the exception is the problem."""

    def refused(self, file: str, row: int, name: str) -> RecipeError:
        """Return the error of the image ``name`` of a row."""
        return RecipeError(errors.bad_image(file, row, name, str(self)))


def read_within(folder: Path, name: str) -> bytes:
    """Return the bytes of a file below ``folder``; ``name`` is a relative path with ``/``, and comes from data.

    Raises:
        ImageError: the name leads elsewhere or through a link, there is no such file, or it is larger than 64 MiB.
    """
    try:
        with open_within(folder, name) as stream:
            return stream.read(MOST_BYTES)
    except OSError as error:
        raise ImageError(os.strerror(error.errno or 0)) from None


def open_within(folder: Path, name: str) -> BinaryIO:
    """Open a file below ``folder``, see :func:`read_within`.

    Raises:
        ImageError: the name leads elsewhere or through a link, there is no such file, or it is larger than 64 MiB.
    """
    refuse_windows("reading the images of a dataset safely")
    *folders, last = _steps(name)
    try:
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for step in folders:
                inner = _enter(at, step, os.O_DIRECTORY)
                os.close(at)
                at = inner
            # a pipe without a writer must not block the run
            handle = _enter(at, last, os.O_NONBLOCK)
        finally:
            os.close(at)
        return _bounded(handle)
    except (OSError, ValueError) as error:
        problem = os.strerror(error.errno or 0) if isinstance(error, OSError) else "no file has such a name"
        missing = isinstance(error, FileNotFoundError)
        raise ImageError("there is no such file" if missing else problem) from None


def _steps(name: str) -> list[str]:
    """Return the folders and the file of a path from data, or refuse it."""
    steps = [step for step in name.split("/") if step not in {"", "."}]
    problem = ""
    if _ELSEWHERE.match(name):
        problem = "it is an address, and nothing is fetched"
    elif name.startswith(("/", "~", "\\")):
        problem = "it is an absolute path"
    elif "\\" in name:
        problem = "it has a backslash; folders are separated by `/`"
    elif ".." in steps:
        problem = "it leads out of the folder of the data, by `..`"
    elif not steps or "\0" in name:
        problem = "it is not a path"
    if problem:
        raise ImageError(problem)
    return steps


def _enter(folder: int, step: str, kind: int) -> int:
    """Open one step of a path without following a link."""
    try:
        return os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=folder)
    except OSError as error:
        link = error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}
        if link and stat.S_ISLNK(os.stat(step, dir_fd=folder, follow_symlinks=False).st_mode):
            raise ImageError(f"it goes through the symbolic link `{step}`") from None
        raise


def _bounded(handle: int) -> BinaryIO:
    """Return the stream of an open file; anything but a regular file within the size limit is closed."""
    about = os.fstat(handle)
    if stat.S_ISREG(about.st_mode) and about.st_size <= MOST_BYTES:
        return os.fdopen(handle, "rb")
    os.close(handle)
    if not stat.S_ISREG(about.st_mode):
        raise ImageError("it is not a file")
    raise ImageError(f"it has {about.st_size:,} bytes; at most {MOST_BYTES:,} are read")

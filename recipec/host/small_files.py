"""Files that are read whole: regular ones of a bounded size, since a link may lead to a device that never ends."""

from __future__ import annotations

from pathlib import Path

MOST = 64 << 20


def read_small(path: Path, most: int = MOST) -> str:
    """Return the text of a regular file in UTF-8, without a byte order mark.

    Raises:
        OSError: it is not there, not a regular file, or has more than ``most`` bytes.
        UnicodeDecodeError: it is not UTF-8.
    """
    if path.exists() and not path.is_dir() and not path.is_file():
        raise OSError(0, "it is not a regular file", str(path))
    with path.open("rb") as stream:
        data = stream.read(most + 1)
    if len(data) > most:
        raise OSError(0, f"it has more than {most >> 20} MiB", str(path))
    return data.decode("utf-8-sig")

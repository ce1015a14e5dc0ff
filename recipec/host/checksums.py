"""``SHA256SUMS``: hashes of the files that a run writes into a folder one by one, in the format of ``sha256sum``.

A hash is written before its file. Hence a file that is there and has none of the hashes of its name was altered, even
where the run was killed between the two; one that is not there may never have been written.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from threading import Lock

from recipec.host.artifacts import hash_file, write_atomic
from recipec.host.ranks import place
from recipec.host.small_files import read_small

SUMS = "SHA256SUMS"
DIFFERS = f"differs from its hash in {SUMS}"
_LARGEST = 1 << 30
"""Most bytes of a file that has a hash: more would take long to verify, and may be a sparse file."""
_WRITING = Lock()  # rollouts of coming steps are sampled by a thread


def write_with_sum(path: Path, content: str | bytes) -> None:
    """Write a small file whole or not at all, after its hash; only the leader writes."""
    if not place().leads:
        return
    data = content.encode("utf-8") if isinstance(content, str) else content
    sums, line = path.with_name(SUMS), f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    with _WRITING:
        try:
            before = _text(sums)
        except (OSError, UnicodeDecodeError):
            before = ""
        lines = [one + "\n" for one in before.splitlines()]
        if line not in lines and len(data) <= _LARGEST:  # else a step is repeated, with the same bits
            write_atomic(sums, "".join([*lines, line]))
    write_atomic(path, data)


def check(path: Path) -> None:
    """Compare a file that is there with the hashes that were written for its name, if there are any.

    Raises:
        ValueError: it has none of them.
        OSError: the hashes cannot be read.
    """
    known = _known(path.parent).get(path.name)
    if known is not None and not _has(path, known):
        raise ValueError(f"it {DIFFERS}")


def damaged(folder: Path) -> list[str]:
    """Return the names of files below a folder that have a hash and are altered or missing, in order of their names.

    So is a file of hashes that cannot be read.
    """
    paths: list[Path] = []
    for sums in folder.rglob(SUMS):
        try:
            known = _known(sums.parent)
        except (OSError, UnicodeDecodeError):
            paths.append(sums)
        else:
            paths += (sums.parent / name for name in known if not _has(sums.parent / name, known[name]))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _has(path: Path, known: set[str]) -> bool:
    try:
        return path.stat().st_size <= _LARGEST and hash_file(path) in known
    except OSError:
        return False


def _known(folder: Path) -> dict[str, set[str]]:
    """Return the hashes of each name; a name with a folder in it is not of this program."""
    hashes: dict[str, set[str]] = {}
    for line in _text(folder / SUMS).splitlines():
        known, _, name = line.partition("  ")
        if name and Path(name).name == name:
            hashes.setdefault(name, set()).add(known)
    return hashes


def _text(sums: Path) -> str:
    try:
        return read_small(sums)
    except FileNotFoundError:
        return ""

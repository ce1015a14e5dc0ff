"""Artifacts on disk, which exist whole or not at all, and the run directory.

A folder is written under a temporary name, synced, and renamed.  Its ``MANIFEST.json`` has the hash of every file; a
folder without a valid manifest is ignored.  Of the processes of a run only the leader writes: here it is decided.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.jsonl import read_lines
from recipec.host.platforms import syncable, windows
from recipec.host.ranks import place
from recipec.host.run_lock import run_lock
from recipec.host.small_files import read_small

MANIFEST = "MANIFEST.json"
RESOLVED = "resolved.txt"
"""The recipe as it was run: each value with the place that says it."""
_CHUNK = 1 << 20


def hash_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is a device or a pipe, which need not end.
    """
    kind = path.stat().st_mode
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def hash_tree(path: Path) -> str:
    """Return one hash of a file, or of every file below a folder with its relative name."""
    if path.is_file():
        return hash_file(path)
    parts = [f"{p.relative_to(path).as_posix()}:{hash_file(p)}" for p in sorted(path.rglob("*")) if p.is_file()]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sync(path: Path, *, deep: bool = True) -> None:
    """Make a file durable, or a folder with all that is in it; ``deep=False`` leaves its contents out."""
    for one in filter(syncable, (path, *(path.rglob("*") if deep else ()))):
        handle = os.open(one, os.O_RDWR if windows() else os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a small file so that a reader sees the old content or the new one, never a part; only the leader writes."""
    if not place().leads:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        sync(temporary)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent, deep=False)


@contextmanager
def committed(final: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill; on a clean exit it becomes ``final``, with ``about`` in its manifest.

    A folder that already has the name is moved aside as ``NAME@DIGEST`` of its manifest, never overwritten.
    What other processes than the leader put into theirs is thrown away.

    Raises:
        RecipeError: RC761, the disk is full or the folder cannot be written; what existed before is kept.
    """
    if not place().leads:
        with TemporaryDirectory(prefix="recipec-") as unused:
            yield Path(unused)
        return
    temporary = final.parent / f".tmp-{final.name}-{uuid.uuid4().hex[:8]}"
    try:
        with disk_errors(final):
            temporary.mkdir(parents=True)
            yield temporary
            write_manifest(temporary, about)
            sync(temporary)
            set_aside(final)
            temporary.rename(final)
            sync(final.parent, deep=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` while writing ``path`` into a diagnostic.

    Raises:
        RecipeError: RC761, the disk is full or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise RecipeError(_not_written(path, error)) from error


def _not_written(path: Path, error: OSError) -> Diagnostic:
    """Return RC761 for a path; where a file is in the place of a folder, it is named."""
    file = next((one for one in (path, *path.parents) if one.is_file()), None)
    if file is not None and isinstance(error, NotADirectoryError | FileExistsError):
        return errors.cannot_write(str(path), f"{file} is a file", "rename that file, or choose another directory")
    return errors.cannot_write(str(path), error.strerror or str(error))


def write_manifest(folder: Path, about: Mapping[str, Any]) -> None:
    """Write ``MANIFEST.json`` with ``about`` and the size and hash of every file of a folder."""
    files = {
        path.relative_to(folder).as_posix(): {"sha256": hash_file(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / MANIFEST).write_text(json.dumps({"format": 1, **about, "files": files}, indent=1, sort_keys=True))


def set_aside(folder: Path) -> Path | None:
    """Move a folder that is in the way to ``NAME@DIGEST``; return its new path, or None if there was no such folder."""
    manifest = read_manifest(folder) or {}
    return _move_aside(folder, str(manifest.get("digest", "unknown")))


def _move_aside(path: Path, digest: str) -> Path | None:
    if not path.exists():
        return None
    name = f"{path.name}@{digest[:16]}"
    aside = path.with_name(name)
    count = 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{name}.{count}")
    path.rename(aside)
    return aside


def replace_folder(source: Path, target: Path) -> None:
    """Make ``target`` a folder with the files of the artifact ``source``, whole or not at all.

    They are hard links, which cost no space and are copied as files by any tool; copies where the disk has none.

    Raises:
        FileExistsError: the name is taken by something that is not an artifact.
    """
    if target.exists() and read_manifest(target) is None:
        raise FileExistsError(errno.EEXIST, "it exists and is not a model of this run", str(target))
    new, old = (target.with_name(f".{kind}-{target.name}-{uuid.uuid4().hex[:8]}") for kind in ("tmp", "del"))
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = new / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                place.hardlink_to(path)
            except OSError:
                shutil.copy2(path, place)
    if target.is_symlink():  # of a version that made one
        target.unlink()
    elif target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder, or None where it cannot be read."""
    try:
        manifest = json.loads(read_small(folder / MANIFEST))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) and isinstance(manifest.get("files"), dict) else None


def verify_folder(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder if every file has the size and hash in it, else None."""
    manifest = read_manifest(folder)
    return None if manifest is None or next(_altered(folder, manifest), None) else manifest


def check_folder(folder: Path) -> None:
    """Refuse a folder that is not as it was committed.

    Raises:
        RecipeError: RC766, with the first file that differs from the manifest.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        raise RecipeError(errors.damaged_artifact(str(folder / MANIFEST), "is missing or cannot be read"))
    for path, problem in _altered(folder, manifest):
        raise RecipeError(errors.damaged_artifact(str(path), problem))


def _altered(folder: Path, manifest: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield each file of a folder that is not as its manifest says, and in what it differs."""
    for name, entry in manifest["files"].items():
        path = folder / name
        if not isinstance(entry, dict):
            yield folder / MANIFEST, f"says nothing of {name}"
        elif not path.is_file():
            yield path, "is missing"
        elif path.stat().st_size != entry.get("bytes"):
            yield path, f"has {path.stat().st_size} bytes, and the stage wrote {entry.get('bytes')}"
        elif hash_file(path) != entry.get("sha256"):
            yield path, "has other bytes than the stage wrote"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The directory of one run: ``runs/<recipe name>/`` unless the command line names another."""

    path: Path

    def stage(self, name: str) -> Path:
        """Folder of a stage."""
        return self.path / "stages" / name

    def begun(self) -> str:
        """Return when the run began, as ISO 8601; empty where that is not known."""
        try:
            about = json.loads(read_small(self.path / "run.json"))
            return datetime.fromisoformat(about["begun"]).isoformat()
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    @contextmanager
    def locked(self, wait: float = 0.0) -> Iterator[None]:
        """Lock the run for this process; ``wait`` seconds for a holder that is about to be gone.

        Raises:
            RecipeError: RC762, another process has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(_not_written(self.path, error)) from error
        with run_lock(self.path, wait):
            yield

    def has_steps(self) -> bool:
        """Whether a step was taken here, or anything is finished."""
        done = any(self.path.glob("stages/*/*/MANIFEST.json"))
        return done or any(
            row.get("step") for path in self.path.glob("stages/*/metrics.jsonl") for row in read_lines(path)
        )

    def has_results(self, stage: str) -> bool:
        """Whether a stage has a checkpoint or an artifact."""
        home = self.stage(stage)
        return any(any(home.glob(names)) for names in ("*/MANIFEST.json", "checkpoints/step-*/MANIFEST.json"))

    def clean(self) -> None:
        """Remove the unfinished files of processes that were killed."""
        for leftover in [*self.path.rglob(".tmp-*"), *self.path.rglob(".del-*")]:
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def digest_of(self, stage: str) -> str:
        """Return the run digest of what a stage left here; empty where it left nothing."""
        try:
            text = read_small(self.stage(stage) / "digest").strip()
        except (OSError, UnicodeDecodeError):
            return ""
        return text if text.isalnum() else ""

    def begin(self, stage: str, digest: str, *, again: bool = False) -> None:
        """Set aside checkpoints, samples and metrics of a stage with another digest; ``again``: with any digest.

        Unfinished output has no manifest, so the folder of the stage has a file ``digest``.
        """
        home = self.stage(stage)
        mark = home / "digest"
        whose = self.digest_of(stage) or "unknown"
        if whose == digest and not again:
            return
        for name in ("checkpoints", "samples", "extracted", "metrics.jsonl"):
            _move_aside(home / name, whose)
        write_atomic(mark, f"{digest}\n")

    def checkpoints(self, stage: str) -> list[Path]:
        """Checkpoints of a stage, the latest first, without those set aside; they are not verified yet."""
        paths = (self.stage(stage) / "checkpoints").glob("step-*")
        return sorted((path for path in paths if "@" not in path.name), reverse=True)

    def prune(self, stage: str, keep: int) -> None:
        """Delete all but the latest ``keep`` checkpoints of a stage: renamed first, so none is seen in part."""
        for old in self.checkpoints(stage)[keep:]:
            doomed = old.with_name(f".del-{old.name}")
            old.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

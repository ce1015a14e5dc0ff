"""Stores in the cache: built once for a key, by whoever comes first, and only read from then on."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyoxigraph as ox

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.run.artifacts import hash_file, write_atomic

FORMAT = 2
"""Raised whenever what is written changes: older stores are then no longer found."""
DONE = "done.json"
OLD = 24 * 3600
"""Nobody fills a store for that long, in seconds."""
_KEPT = re.compile(r"CURRENT$|MANIFEST-|\d+\.(?:sst|log)$")


def key_of(*parts: object) -> str:
    """Hash everything that a store depends on."""
    text = json.dumps([FORMAT, ox.__version__, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def open_store(cache: Path, key: str, quads: Callable[[], Iterable[ox.Quad]]) -> ox.Store:
    """Open the store with this key, building it first where it is absent or damaged.

    ``quads`` is called only to build.  Several processes may build at once: each fills a folder of its own and the
    first to finish gives it its name.

    Raises:
        RecipeError: RC761, the cache cannot be written; whatever ``quads`` refuses.
    """
    home = cache / "knowledge"
    final = home / key
    try:
        found = _opened(final)
        if found is None:
            home.mkdir(parents=True, exist_ok=True)
            _sweep(home)
            _build(home, final, quads)
            found = _opened(final)
    except OSError as error:
        raise RecipeError(errors.cannot_write(str(final), error.strerror or str(error))) from error
    assert found is not None, final
    return found


def _opened(final: Path) -> ox.Store | None:
    """Open a whole store; move a damaged one out of the way."""
    if not os.path.lexists(final):
        return None
    try:
        about: Any = json.loads((final / DONE).read_text(encoding="utf-8"))
        if isinstance(about, dict) and about.get("contents") == _contents(final / "store"):
            return ox.Store.read_only(str(final / "store"))
    except (OSError, ValueError, RuntimeError):  # the last is how the store says that it cannot be read
        pass
    aside = final.with_name(f".old-{final.name}-{uuid.uuid4().hex[:8]}")
    with suppress(FileNotFoundError):  # another process was first
        final.rename(aside)
    if aside.is_dir() and not aside.is_symlink():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    return None


def _contents(folder: Path) -> str:
    """Hash the files with statements in them; reading changes the others."""
    kept = sorted(path for path in folder.iterdir() if _KEPT.match(path.name))
    said = [f"{path.name}:{hash_file(path)}" for path in kept]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _sweep(home: Path) -> None:
    """Remove what processes left that were killed long ago."""
    for left in (*home.glob(".tmp-*"), *home.glob(".old-*")):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > OLD:
                shutil.rmtree(left)


def _build(home: Path, final: Path, quads: Callable[[], Iterable[ox.Quad]]) -> None:
    temporary = home / f".tmp-{final.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        store = ox.Store(str(temporary / "store"))
        try:
            store.bulk_extend(quads())
            store.flush()
            store.optimize()
        finally:
            del store
            gc.collect()  # the store holds its lock until it is gone
        write_atomic(temporary / DONE, json.dumps({"format": FORMAT, "contents": _contents(temporary / "store")}))
        try:
            os.rename(temporary, final)  # noqa: PTH104 - Path.rename would do the same
        except OSError:
            if not final.exists():
                raise  # else another process was first, with the same facts
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

"""Stores of knowledge graphs in the cache, each built once for its key."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyoxigraph as ox

from recipec.host.artifacts import hash_file
from recipec.host.build_once import build_once

FORMAT = 2
"""Increased whenever the stored form changes, so that older stores are not found."""
DONE = "done.json"
_KEPT = re.compile(r"CURRENT$|MANIFEST-|\d+\.(?:sst|log)$")


def key_of(*parts: object) -> str:
    """Hash everything that a store depends on."""
    text = json.dumps([FORMAT, ox.__version__, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def open_store(cache: Path, key: str, quads: Callable[[], Iterable[ox.Quad]]) -> ox.Store:
    """Open the store with this key; where it is absent or damaged, build it first from ``quads``.

    Raises:
        RecipeError: RC761, the cache cannot be written; what ``quads`` raises.
    """
    return build_once(cache / "knowledge" / key, _opened, lambda folder: _build(folder, quads))


def _opened(folder: Path) -> ox.Store | None:
    with suppress(OSError, ValueError, RuntimeError):  # the last is what the store raises where it cannot be read
        about: Any = json.loads((folder / DONE).read_text(encoding="utf-8"))
        if isinstance(about, dict) and about.get("contents") == _contents(folder / "store"):
            return ox.Store.read_only(str(folder / "store"))
    return None


def _contents(folder: Path) -> str:
    """Hash the files with statements in them; reading changes the others."""
    kept = sorted(path for path in folder.iterdir() if _KEPT.match(path.name))
    hashes = [f"{path.name}:{hash_file(path)}" for path in kept]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _build(folder: Path, quads: Callable[[], Iterable[ox.Quad]]) -> None:
    folder.mkdir()
    store = ox.Store(str(folder / "store"))
    try:
        store.bulk_extend(quads())
        store.flush()
        store.optimize()
    finally:
        del store  # it holds its lock until it is gone
    (folder / DONE).write_text(json.dumps({"format": FORMAT, "contents": _contents(folder / "store")}))

"""Lock files: everything outside of a recipe that its results depend on, so that `run --locked` finds a difference."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipec import graph as graphs
from recipec.component import is_origin, texts
from recipec.diagnostics.errors import lock as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Graph
from recipec.host.artifacts import disk_errors, hash_tree, write_atomic
from recipec.host.options import Options
from recipec.host.packages import runtime_packages, version
from recipec.host.preflight import components, named_paths
from recipec.host.small_files import read_small
from recipec.package_files import named_file
from recipec.run.digests import used_code
from recipec.run.inputs import named_packages
from recipec.run.launching import Prepared
from recipec.spec.recipe import distribution_of, weights_kind

FORMAT = 1
SUFFIX = ".lock"
_ALWAYS = ("recipec", "torch", "transformers", "peft", "tokenizers", "safetensors", "numpy", "accelerate")
"""Packages that compute numbers whatever the recipe says."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The content of a lock file: what is locked, by kind and name.

    Example: ``Lock({"packages": {"torch": "2.13.0"}, "files": {"data/sums.jsonl": "9f…"}})``.
    """

    entries: Mapping[str, Mapping[str, str]]

    def to_json(self) -> str:
        """Write the file."""
        return json.dumps({"format": FORMAT, **self.entries}, indent=1, sort_keys=True) + "\n"

    def differences(self, now: Lock) -> list[str]:
        """Say what is not as it was.

        >>> Lock({"packages": {"torch": "2.12"}}).differences(Lock({"packages": {"torch": "2.13"}}))
        ['torch is 2.13, was 2.12']
        """
        differences = []
        for kind in sorted({*self.entries, *now.entries}):
            old, new = self.entries.get(kind, {}), now.entries.get(kind, {})
            for name in sorted({*old, *new}):
                if old.get(name) != new.get(name):
                    values = [side.get(name, "not there") for side in (new, old)]
                    short = [value if kind == "packages" else value[:12] for value in values]
                    both = name in old and name in new
                    other = f"settings of {name} are others"  # hashes of them say nothing to a reader
                    differences.append(
                        other if kind == "settings" and both else f"{name} is {short[0]}, was {short[1]}"
                    )
        return differences


def lock_path(recipe: Path) -> Path:
    """Return the lock file of a recipe.

    >>> lock_path(Path("recipes/mine.yaml")).as_posix()
    'recipes/mine.lock'
    """
    return recipe.with_suffix(SUFFIX)


def lock_of(graph: Graph, options: Options) -> Lock:
    """Hash what the results of a recipe depend on, here and now.

    Raises:
        RecipeError: RC700, RC721 a file is missing; RC977, a model of the hub is not in the cache.
    """
    files = {name: _hashed(named_file(options.root, name), name) for _, name, _ in named_paths(graph)}
    names = {text for one in components(graph) for _, info, text in texts(one.spec) if is_origin(info)}
    origins = sorted(names | {stage.origin for stage in graph.stages})
    functions = {
        name: hashlib.sha256(text.encode()).hexdigest()
        for stage in graph.stages
        for name, text in used_code(stage, options)
    }
    return Lock(
        {
            "settings": {stage.name: stage.digest for stage in graph.stages}
            | {f"evaluate.{name}": graphs.digest(one) for name, one in graph.evaluate.items()},
            "files": files,
            "models": {name: commit(name) for name in origins if weights_kind(name) == "hub"},
            "functions": functions,
            "packages": {name: version(name) for name in sorted(set(_packages(graph)))}
            | {"python": platform.python_version()},
        }
    )


def _packages(graph: Graph) -> Iterator[str]:
    yield from _ALWAYS
    for one in components(graph):
        yield from one.spec.packages
    for stage in graph.stages:
        yield from named_packages(stage)
        if weights_kind(stage.origin) == "package":
            yield distribution_of(stage.origin)


def _hashed(path: Path, name: str) -> str:
    if not path.exists():
        raise RecipeError(errors.cannot_lock(name, "there is no such file or folder"))
    try:
        return hash_tree(path)
    except OSError as error:
        raise RecipeError(errors.cannot_lock(name, error.strerror or str(error))) from None


def commit(name: str) -> str:
    """Return the commit of a model of the hub in the cache of this machine.

    Raises:
        RecipeError: RC977, it is not there.
    """
    with runtime_packages():
        from recipec.runtime.model.hub_cache import cached_commit  # noqa: PLC0415 - the hub's package comes in here
    revision = cached_commit(name)
    if not revision:
        raise RecipeError(errors.cannot_lock(name, "it is not in the cache of models"))
    return revision


def write_lock(prepared: Prepared, path: Path) -> Lock:
    """Write the lock file of a recipe."""
    lock = lock_of(prepared.graph, prepared.options)
    with disk_errors(path):
        write_atomic(path, lock.to_json())
    return lock


def check_lock(prepared: Prepared, path: Path) -> None:
    """Refuse a run that is not what the lock file says.

    Raises:
        RecipeError: RC975, something differs; RC976, there is no lock file or it cannot be read.
    """
    differences = _read(path).differences(lock_of(prepared.graph, prepared.options))
    if differences:
        raise RecipeError(errors.lock_differs(str(path), differences))


def _read(path: Path) -> Lock:
    try:
        entries: dict[str, Any] = json.loads(read_small(path))
        if entries.pop("format") != FORMAT:
            raise RecipeError(errors.no_lock(str(path), "it has the format of another version"))
        return Lock({kind: dict(names) for kind, names in entries.items()})
    except OSError as error:
        raise RecipeError(errors.no_lock(str(path), error.strerror or str(error))) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RecipeError(errors.no_lock(str(path), "it is not a lock file")) from None

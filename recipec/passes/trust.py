"""What a recipe cannot ask for, whoever wrote it: RC650 and RC651."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from recipec.diagnostics import Finding, check
from recipec.passes.facts import dotted, place
from recipec.passes.reading import Path, Reading
from recipec.snippet import SECRET

_CODE = "a recipe is data: checking, planning and reading one must be safe whoever wrote it"
REFUSED = {
    "trust_remote_code": "code that comes with a model's files is never run; only architectures of the library load",
    "allow_remote_code": "code that comes with a model's files is never run; only architectures of the library load",
    "eval": f"{_CODE}; values may refer to each other as `${{vars.x}}`",
    "exec": f"{_CODE}; your own functions stand in a file under `use`",
    "shell": f"{_CODE}; no command is ever started from one",
    "command": f"{_CODE}; no command is ever started from one",
    "pickle": "pickled files run code when they are opened; weights are read from safetensors only",
    "torch_load": "pickled files run code when they are opened; weights are read from safetensors only",
    "weights_only": "pickled files are never opened, so there is nothing to restrict",
    "allow_pickle": "pickled files run code when they are opened; weights are read from safetensors only",
    "env": f"{_CODE}, and gives the same result on every machine: it reads no environment variable",
}
"""Keys that other tools have and this one never will, and why."""
_SECRET_KEY = re.compile(r"(?:^|_)(?:token|api_key|apikey|password|passwd|secret|access_key)$")


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every key and item of nested data with its path, outside ``vars`` and free-form columns."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key), inner
        yield from walk(inner, (*path, key))


def refused(key: object) -> bool:
    """Whether a key is one of those that this tool never has."""
    return key in REFUSED


@check("RC650", "never-trusted")
def never_trusted(reading: Reading) -> Iterator[Finding]:
    """A recipe asks for something that no recipe can have.

    What it checks: keys such as `trust_remote_code`, `eval`, `shell` and `pickle`, wherever they stand.
    Why it matters: a recipe is downloaded and shared like text. Checking it, planning it and reading it must be safe
    whoever wrote it; running it executes only files that the person at the keyboard names with `--use`.
    Example: `policy: {type: causal_lm, trust_remote_code: true}`.
    Use instead: drop the key. Own reward functions: `use: [./rewards.py]`, and `--use ./rewards.py` when running.
    """
    for path, _ in walk(reading.resolved.data):
        if path[-1] in REFUSED and path[0] != "vars" and not _named_by_user(path):
            yield Finding(
                f"there is no `{path[-1]}`",
                place(reading, path, key=True),
                why=REFUSED[str(path[-1])],
                help="drop it",
                path=dotted(path),
            )


def _named_by_user(path: Path) -> bool:
    """Whether the last step is a name that the user chose: a stage, a level, an evaluation, a service, an option."""
    parents = {"stages", "reward", "advantage", "evaluate", "services", "allow", "options", "columns"}
    return len(path) > 1 and path[-2] in parents


@check("RC651", "secret-in-recipe")
def secret_in_recipe(reading: Reading) -> Iterator[Finding]:
    """A recipe holds what looks like a password or an access token.

    What it checks: texts that have the form of a token of a known service, and texts under keys such as `token`,
    `api_key` and `password`.
    Why it matters: the recipe is copied into every run directory and report, and shared with them.
    Example: `hub_token: hf_…`.
    Use instead: keep it out of the file: the libraries that need one read it from their own environment variables or
    credential stores. A token that was in a file should be revoked.
    """
    for path, value in walk(reading.resolved.data):
        if not isinstance(value, str) or not value:
            continue
        if SECRET.search(value) or (isinstance(path[-1], str) and _SECRET_KEY.search(path[-1])):
            yield Finding(
                f"`{path[-1]}` looks like a secret",
                place(reading, path, key=isinstance(path[-1], str)),
                why="a recipe is copied into every run directory and report, and shared with them",
                help="drop it: libraries read tokens from their own environment variables; revoke one that was shared",
                path=dotted(path),
            )

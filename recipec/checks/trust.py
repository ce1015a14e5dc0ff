"""Keys and texts that no recipe may have: RC650 and RC651."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import dotted, span_of
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.snippet import SECRET
from recipec.reading.never_supported import REFUSED, refused
from recipec.reading.partial import Path, Reading

_SECRET_KEY = re.compile(
    r"(?:^|_)(?:api_?key|password|passwd|secret|secret_key|access_key|private_key|"
    r"(?:hub|hf|auth|access|api|bearer|refresh|session|wandb|github|gitlab|slack|openai|service)_token)$"
)
_TOKEN_KEY = re.compile(r"(?:^|_)token$")
_RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_.~+/=-]{20,}")
"""A long text of letters and digits, as generated tokens are; no token of a vocabulary looks so."""


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every key and item of nested data with its path, outside ``vars`` and free-form columns."""
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key), inner
        yield from walk(inner, (*path, key))


@check("RC650", "never-trusted")
def never_trusted(reading: Reading) -> Iterator[Finding]:
    """A recipe has a key that no recipe can have.

    What it checks: keys such as `trust_remote_code`, `eval`, `shell` and `pickle`, anywhere in the recipe.
    Why it matters: a recipe is downloaded and shared like text. Reading, checking and planning it must be safe whoever
    wrote it; running it executes only files that the user allows with `--use`.
    Example: `policy: {type: causal_lm, trust_remote_code: true}`.
    How to fix: drop the key; your own reward functions are files under `use: [./rewards.py]`, which a run allows with
    `--use ./rewards.py`.
    """
    for path, value in walk(reading.resolved.data):
        if refused(path[-1], value) and path[0] != "vars" and not _named_by_user(path):
            yield Finding(
                f"there is no `{path[-1]}`",
                span_of(reading, path, key=True),
                why=REFUSED[str(path[-1])],
                path=dotted(path),
            )


def _named_by_user(path: Path) -> bool:
    """Whether the last step is a name that the user chose: a stage, a level, an evaluation, a service, an option."""
    parents = {"stages", "reward", "advantage", "evaluate", "services", "allow", "options", "columns"}
    return len(path) > 1 and path[-2] in parents


@check("RC651", "secret-in-recipe")
def secret_in_recipe(reading: Reading) -> Iterator[Finding]:
    """A recipe contains what looks like a password or an access token.

    What it checks: texts with the form of a token of a known service, texts under keys such as `hub_token`, `api_key`
    and `password`, and long random texts under any key that ends in `token`. Tokens of a vocabulary, such as
    `eos_token: <|im_end|>`, are not.
    Why it matters: the recipe is copied into every run directory and report, and shared with them.
    Example: `hub_token: hf_…`.
    How to fix: drop it: libraries read tokens from their own environment variables or credential stores. Revoke a token
    that was shared.
    """
    for path, value in walk(reading.resolved.data):
        if not isinstance(value, str) or not value:
            continue
        if SECRET.search(value) or _under_secret_name(str(path[-1]), value):
            yield Finding(
                f"`{path[-1]}` looks like a secret",
                span_of(reading, path, key=isinstance(path[-1], str)),
                path=dotted(path),
            )


def _under_secret_name(key: str, value: str) -> bool:
    """Whether a text is under a name for secrets; `token` alone is also a name for tokens of a vocabulary."""
    return bool(_SECRET_KEY.search(key)) or bool(_TOKEN_KEY.search(key) and _RANDOM.fullmatch(value))

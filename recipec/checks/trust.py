"""Keys and texts that no recipe may have: RC152, RC650 and RC651."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from recipec.checks.queries import at_path
from recipec.component import is_origin, names_file, texts
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.snippet import SECRET
from recipec.reading.never_supported import REFUSED, refused
from recipec.reading.partial import Path, Reading

_SECRET_KEY = re.compile(
    r"(?:^|_)(?:api_?key|password|passwd|secret|secret_key|access_key|private_key|"
    r"(?:hub|hf|auth|access|api|bearer|refresh|session|wandb|github|gitlab|slack|openai|service)_token)$"
)
_TOKEN_KEY = re.compile(r"(?:^|_)token$")
_LONGEST_NAME, _LONGEST_PATH = 255, 4095
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
            yield at_path(reading, path, key=True).finding(f"there is no `{path[-1]}`", why=REFUSED[str(path[-1])])


def _named_by_user(path: Path) -> bool:
    """Whether the last step is a name that the user chose: a stage, a level, an evaluation, a service, an option."""
    parents = {"stages", "reward", "advantage", "evaluate", "services", "allow", "options", "columns"}
    return len(path) > 1 and path[-2] in parents


@check("RC651", "secret-in-recipe")
def secret_in_recipe(reading: Reading) -> Iterator[Finding]:
    """A recipe contains what looks like a password or an access token.

    What it checks: texts with the form of a token of a known service, addresses with a password, texts under keys such
    as `hub_token`, `api_key` and `password`, and long random texts under any key that ends in `token`. Tokens of a
    vocabulary, such as `eos_token: <|im_end|>`, are not.
    Why it matters: the recipe is copied into every run directory and report, and shared with them.
    Example: `hub_token: hf_…`.
    How to fix: drop it: libraries read tokens from their own environment variables or credential stores. Revoke a token
    that was shared.
    """
    for path, value in walk(reading.resolved.data):
        if not isinstance(value, str) or not value:
            continue
        if SECRET.search(value) or _under_secret_name(str(path[-1]), value):
            of_service = path[:2] == ("machine", "services")
            variable = "drop it, and write `key_variable: RECIPEC_NAME`, the environment variable that has the key. "
            yield at_path(reading, path, key=isinstance(path[-1], str)).finding(
                f"`{path[-1]}` looks like a secret",
                remedy=f"{variable}Revoke a token that was shared" if of_service else "",
            )


@check("RC152", "impossible-name")
def impossible_name(reading: Reading) -> Iterator[Finding]:
    r"""A path, or a name of weights, has control characters, or is longer than a file's name can be.

    What it checks: `use`, `from`, and every parameter that names a file, a directory or a tokenizer.
    Why it matters: no file has such a name, and a control character could forge lines of what is printed.
    Example: `from: "org/model\r\n"`, or a name of 300 letters.
    How to fix: write the name of the file as it is on disk.
    """
    names = [((*stage.path, "from"), "from", stage.origin or "") for stage in reading.stages.values()]
    use = reading.resolved.data.get("use")
    entries = enumerate(use) if isinstance(use, list) else ()
    names += [(("use", number), "use", entry) for number, entry in entries if isinstance(entry, str)]
    parts = [*reading.parts, *(part for trial in reading.trials.values() for part in trial.parts)]
    for part in parts:
        for key, info, text in texts(part.spec) if part.given and part.spec is not None else ():
            if names_file(info, text) or is_origin(info):
                names.append(((*part.path, *key.split(".")), key, text))
    for path, key, text in names:
        problem = _impossible(text)
        if problem:
            yield at_path(reading, path).finding(f"`{key}` {problem}")


def _impossible(text: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        return "has control characters"
    data = text.encode("utf-8", "replace")
    if len(data) > _LONGEST_PATH or any(len(name) > _LONGEST_NAME for name in data.split(b"/")):
        return f"is longer than the {_LONGEST_NAME} bytes of a name or the {_LONGEST_PATH} bytes of a path"
    return ""


def _under_secret_name(key: str, value: str) -> bool:
    """Whether a text is under a name for secrets; `token` alone is also a name for tokens of a vocabulary."""
    return bool(_SECRET_KEY.search(key)) or bool(_TOKEN_KEY.search(key) and _RANDOM.fullmatch(value))

"""Permission to run the user's own files: RC620 and RC621."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC620", "code-not-allowed")
def code_not_allowed(file: str, path: str) -> Finding:
    """The recipe uses a Python file that the command line does not allow to run.

    Why it matters: a recipe is data. Whoever runs it decides whether the code that comes with it may run.
    Example: `recipec run recipe.yaml` for a recipe with `use: [./rewards.py]`.
    How to fix: read the file, then run `recipec run recipe.yaml --use ./rewards.py`.
    """
    message = f"the recipe uses {file}, but the command line does not allow it to run"
    return Finding(message, help=f"read it, then add --use {path}", path="use")


@diagnostic("RC621", "allowed-not-used")
def allowed_not_used(file: str, have: Iterable[str]) -> Finding:
    """The command line allows a file that the recipe does not use.

    Why it matters: with a misspelt path, the file that was meant would not be allowed.
    Example: `--use reward.py` for a recipe with `use: [./rewards.py]`.
    How to fix: give the path as the recipe writes it.
    """
    return Finding(f"the recipe does not use {file}", help=f"it uses {', '.join(have) or 'no file'}", path="use")

"""What can go wrong with running the user's own files: RC620 to RC629."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC620", "code-not-allowed")
def code_not_allowed(file: str, path: str) -> Finding:
    """The recipe uses a Python file, and the command line does not allow it to be run.

    What it checks: every file under `use:` against `--use`.
    Why it matters: a recipe is data; whoever runs it decides whether the code beside it may run.
    Example: `recipec run recipe.yaml` where the recipe says `use: [./rewards.py]`.
    Use instead: read the file, then `recipec run recipe.yaml --use ./rewards.py`.
    """
    return Finding(
        f"the recipe uses {file}, which the command line does not allow to run",
        why="a recipe is data: code runs only when you say so",
        help=f"read it, then add --use {path}",
        path="use",
    )


@diagnostic("RC621", "allowed-not-used")
def allowed_not_used(file: str, have: Iterable[str]) -> Finding:
    """The command line allows a file that the recipe does not use.

    What it checks: every `--use` against the recipe's `use:`.
    Why it matters: a typing error here would leave another file without permission, or run one in vain.
    Example: `--use reward.py` where the recipe says `use: [./rewards.py]`.
    Use instead: the path that the recipe names.
    """
    listed = ", ".join(have) or "no file"
    return Finding(f"--use {file} is no file that the recipe uses", help=f"the recipe uses {listed}", path="use")

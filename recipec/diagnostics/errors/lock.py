"""Lock files: RC975 to RC977."""

from __future__ import annotations

from collections.abc import Sequence

from recipec.diagnostics.model import Finding, diagnostic
from recipec.diagnostics.phrases import listed


@diagnostic("RC975", "lock-differs")
def lock_differs(path: str, differences: Sequence[str]) -> Finding:
    """`run --locked` found something that is not as the lock file says.

    What it checks: settings of stages and evaluations, hashes of data and model files, commits of models of the hub,
    the functions of `use` that stages call, and versions of packages.
    Why it matters: the results could be others than those that the lock file stands for.
    Example: a row was added to the data, or torch was upgraded.
    How to fix: restore what differs, or accept it with `recipec lock RECIPE`.
    """
    return Finding(f"{path} does not hold: {listed(differences, 6)}")


@diagnostic("RC976", "no-lock-file")
def no_lock(path: str, problem: str) -> Finding:
    """`run --locked` needs the lock file of the recipe, and cannot read it.

    Why it matters: there is nothing to compare this machine with.
    Example: the lock file was not committed with the recipe.
    How to fix: write it with `recipec lock RECIPE`.
    """
    return Finding(f"{path} cannot be read: {problem}")


@diagnostic("RC977", "cannot-be-locked")
def cannot_lock(name: str, problem: str) -> Finding:
    """A file or a model that the recipe names is not here, so it has no hash.

    Why it matters: a lock file without it would say nothing about it.
    Example: a model of the hub that was never downloaded to this machine.
    How to fix: provide the file, or download the model, for example by `hf download ORG/NAME`.
    """
    return Finding(f"`{name}` cannot be locked: {problem}")

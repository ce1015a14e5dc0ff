"""Answers that are scored in child processes, and the count of those that could not be scored."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.errors.data import package_missing
from recipec.diagnostics.model import RecipeError
from recipec.host.worker_pool import HandlerError, WorkerPool

MAX_FAILED = 0.01
MIN_SCORED = 100
MAX_PROCESSES = 4


class Tally:
    """Counts the answers that could not be scored; stops the run when they are more than one in a hundred.

    Example: ``Tally("math_verify").add(8, ["9^{9^{9^9}}"])``.
    """

    def __init__(self, reward: str) -> None:
        self.reward = reward
        self.scored = 0
        self.failed: list[str] = []

    def add(self, scored: int, failed: Sequence[str]) -> None:
        """Count a batch; once a hundred answers are counted, judge them and begin again.

        Raises:
            RecipeError: RC744.
        """
        self.scored += scored
        self.failed += failed
        if self.scored < MIN_SCORED:
            return
        if len(self.failed) > MAX_FAILED * self.scored:
            raise RecipeError(errors.scoring_fails(self.reward, len(self.failed), self.scored, self.failed[:3]))
        self.scored, self.failed = 0, []


class ScoringWorkers:
    """Child processes of one reward, which score answers and are killed when they hang.

    Example: ``ScoringWorkers("math_verify", "math-verify", "recipec.runtime.reward.worker_main:mathematics")``.
    """

    def __init__(self, reward: str, package: str, handler: str) -> None:
        """Prepare children on a handler that needs a package of the extra `train`."""
        self.reward = reward
        self.package = package
        self.tally = Tally(reward)
        size = min(MAX_PROCESSES, os.cpu_count() or 1)
        self._pool = WorkerPool(handler, None, what=f"reward `{reward}`", size=size)

    def ask(self, requests: Sequence[Any], seconds: float) -> list[Any]:
        """Return the answer to each request, a ``WorkerFailure`` where ``seconds`` passed without one.

        Raises:
            RecipeError: RC716, the package is not installed; RC752, no child starts.
        """
        try:
            return self._pool.ask(requests, seconds)
        except HandlerError as problem:
            if problem.error in {"ModuleNotFoundError", "ImportError"}:
                raise RecipeError(package_missing(self.package, "train", f"reward `{self.reward}`")) from None
            raise RecipeError(errors.judge_broken(self.reward, problem.message)) from None

    def close(self) -> None:
        """End the child processes."""
        self._pool.close()

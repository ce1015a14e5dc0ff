"""Environments of gymnasium with text observations; see :class:`recipec.spec.environment.Gymnasium`."""

from __future__ import annotations

from typing import Any

from recipec.diagnostics.errors import data as data_errors, environment as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.host.worker_pool import HandlerError
from recipec.runtime.environment.worker_env import WorkerEnv
from recipec.runtime.environment.workers import Workers
from recipec.spec import environment as specs


class Gymnasium(WorkerEnv):
    """Environments with observations as text, actions by name or number, and seeds as tasks.

    The state key is the observation as numbers and lists of them.

    Raises:
        RecipeError: RC812 gymnasium does not register the name, RC810 the options are wrong.
    """

    spec: specs.Gymnasium
    handler = "recipec.runtime.environment.gymnasium_worker:serve"

    @staticmethod
    def preflight(spec: specs.Gymnasium, request: PreflightRequest) -> None:  # noqa: ARG004 - one signature
        """Build the environment once, before a model is loaded.

        Raises:
            RecipeError: RC810, RC812.
        """
        games = Workers(Gymnasium.handler, _argument(spec), name=spec.id, timeout=spec.timeout, lanes=1)
        try:
            games.begin()
        except HandlerError as error:
            raise RecipeError(_refusal(spec, error)) from None
        finally:
            games.close()

    def is_replayable(self) -> bool:
        """Return `replayable`."""
        return self.spec.replayable

    def worker_argument(self) -> Any:
        """Name, options and names of the actions."""
        return _argument(self.spec)

    def refusal(self, problem: HandlerError) -> Diagnostic:
        """Return the diagnostic of an unknown name, a missing package or wrong options."""
        return _refusal(self.spec, problem)


def _argument(spec: specs.Gymnasium) -> Any:
    return {"id": spec.id, "options": spec.options, "actions": list(spec.actions)}


def _refusal(spec: specs.Gymnasium, problem: HandlerError) -> Diagnostic:
    if problem.error == "LookupError":
        return errors.unknown_gymnasium(spec.id, problem.message)
    if problem.error in {"ModuleNotFoundError", "ImportError"} and "gymnasium" in problem.message:
        return data_errors.package_missing("gymnasium", "envs", "environment `gymnasium`")
    return errors.environment_broken(spec.id, f"{problem.error}: {problem.message}".rstrip(": "))

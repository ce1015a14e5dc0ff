"""A class of a user's file as an environment; see :class:`recipec.spec.environment.Own`."""

from __future__ import annotations

from typing import Any

from recipec.diagnostics.errors import environment as errors
from recipec.diagnostics.model import Diagnostic
from recipec.host.worker_pool import HandlerError
from recipec.runtime.context import StageContext
from recipec.runtime.environment.worker_env import WorkerEnv
from recipec.runtime.protocols import Policy
from recipec.runtime.user_code import place_in
from recipec.spec import environment as specs


class UserEnvironment(WorkerEnv):
    """Episodes of a user's class, one instance each, in worker processes.

    ``tasks(split, size, seed)``, a static method that returns mappings, lists the tasks; ``size`` may be None.
    An exception of the class ends the episode, with file and line in its error.

    Raises:
        RecipeError: RC810, no allowed file has the class, or it cannot be loaded.
    """

    handler = "recipec.runtime.environment.user_env_worker:serve"

    def __init__(self, spec: specs.Own, context: StageContext, *, policy: Policy) -> None:
        self.own = spec
        self.files = [str(path) for path in context.use]
        super().__init__(spec, context, policy=policy)

    def repeats(self) -> bool:
        """Return `replayable`."""
        return self.own.replayable

    def argument(self) -> Any:
        """Files, name and options."""
        return {"files": self.files, "name": self.own.name, "options": self.own.options}

    def declined(self, problem: HandlerError) -> Diagnostic:
        """Return the error of the class, with file and line."""
        place = place_in(problem.message, self.context.use, self.context.root)
        return errors.environment_broken(self.own.name, str(problem), place)

"""A class of a user's file as an environment; see :class:`recipec.spec.environment.Own`."""

from __future__ import annotations

from typing import Any

from recipec.diagnostics.errors import environment as errors
from recipec.diagnostics.model import Diagnostic
from recipec.host.worker_pool import HandlerError
from recipec.runtime.environment.worker_env import WorkerEnv
from recipec.runtime.user_code import place_in
from recipec.spec import environment as specs


class UserEnvironment(WorkerEnv):
    """Episodes of a user's class, one instance each, in worker processes.

    ``tasks(split, size, seed)``, a static method that returns mappings, lists the tasks; ``size`` may be None.
    An exception of the class ends the episode, with file and line in its error.

    Raises:
        RecipeError: RC810, no allowed file has the class, or it cannot be loaded.
    """

    spec: specs.Own
    handler = "recipec.runtime.environment.user_env_worker:serve"

    def named(self) -> str:
        """Return the name of the class."""
        return self.spec.name

    def is_replayable(self) -> bool:
        """Return `replayable`."""
        return self.spec.replayable

    def worker_argument(self) -> Any:
        """Files, name and options."""
        files = [str(path) for path in self.context.use]
        return {"files": files, "name": self.spec.name, "options": self.spec.options}

    def refusal(self, problem: HandlerError) -> Diagnostic:
        """Return the error of the class, with file and line."""
        place = place_in(problem.message, self.context.use, self.context.root)
        return errors.environment_broken(self.spec.name, str(problem), place)

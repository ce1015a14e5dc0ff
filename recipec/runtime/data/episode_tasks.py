"""Tasks that an environment lists: games, instructions or seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.data.sources import Encoded, Source
from recipec.runtime.protocols import Environment
from recipec.spec import data as specs


class EnvironmentTasks(Source):
    """The environment's own tasks; see :class:`recipec.spec.data.EnvironmentTasks`.

    The environment writes the first prompt when an episode starts, so a task has no tokens.
    """

    def __init__(self, spec: specs.EnvironmentTasks, context: StageContext, *, environment: Environment) -> None:
        super().__init__(spec, context, environment=environment)
        self.spec = spec
        self.shown = f"split `{spec.split}` of the environment"

    def encoded(self) -> list[Encoded]:
        """List the tasks of a split, in the environment's order."""
        assert self.environment is not None, "the checks require an environment with tasks"
        tasks = self.environment.tasks(self.spec.split, self.spec.size, self.spec.task_seed)[: self.spec.limit]
        if not tasks:
            raise RecipeError(errors.no_rows(self.shown, "it has no such tasks"))
        return [(Task(i, _goal(columns), (), dict(columns)),) for i, columns in enumerate(tasks)]


def _goal(columns: Mapping[str, Any]) -> str:
    """Return the goal of a task, where it is known before the episode starts."""
    return next((str(columns[name]) for name in ("goal", "instruction", "question") if columns.get(name)), "")

"""Tasks that an environment brings itself: its games, its instructions, its seeds."""

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

    What the policy reads is the environment's to say when an episode starts, so a task has no tokens of its own.
    """

    def __init__(self, spec: specs.EnvironmentTasks, context: StageContext, *, environment: Environment) -> None:
        super().__init__(spec, context, environment=environment)
        self.spec = spec
        self.shown = f"split `{spec.split}` of the environment"

    def encoded(self) -> list[Encoded]:
        """List the tasks of a split, in the environment's order."""
        assert self.environment is not None, "the checks ask for an environment with tasks"
        made = self.environment.tasks(self.spec.split, self.spec.size, self.spec.task_seed)[: self.spec.limit]
        if not made:
            raise RecipeError(errors.no_rows(self.shown, "it has no such tasks"))
        return [(Task(i, _goal(columns), (), dict(columns)),) for i, columns in enumerate(made)]


def _goal(columns: Mapping[str, Any]) -> str:
    """Return what a task asks for, as far as it says so before it is played."""
    return next((str(columns[name]) for name in ("goal", "instruction", "question") if columns.get(name)), "")

"""Generated text adventures as an environment; worker processes play the games."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from recipec.diagnostics.errors import data as data_errors, environment as errors, run as run_errors
from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.host.progress import Progress
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.episode_state import EpisodeState
from recipec.runtime.environment.textworld import game_maker as maker
from recipec.runtime.environment.worker_env import WorkerEnv
from recipec.runtime.environment.workers import StepRequest
from recipec.runtime.protocols import Policy
from recipec.spec import environment as specs


class Textworld(WorkerEnv):
    """Text adventures; see :class:`recipec.spec.environment.Textworld`.

    The column ``game`` of a task names its game, ``split/seed/index``.  The reward of a turn is its share of the score
    of the game, so a game that is won adds up to 1.  The state key is the text of the room and of the inventory.

    References:
        Côté et al., `TextWorld <https://arxiv.org/abs/1806.11532>`_, 2018.
    """

    handler = "recipec.runtime.environment.textworld.worker:serve"
    shipped = "textworld"

    def __init__(self, spec: specs.Textworld, context: StageContext, *, policy: Policy) -> None:
        """Check that the package is installed.

        Raises:
            RecipeError: RC716; the errors of :class:`.PromptBuilder`.
        """
        if importlib.util.find_spec("textworld") is None:
            raise RecipeError(data_errors.package_missing("textworld", "envs", "environment `textworld`"))
        self.size = maker.GameSize(spec.rooms, spec.objects, spec.quest_length)
        super().__init__(spec, context, policy=policy)

    @staticmethod
    def preflight(spec: specs.Textworld, request: PreflightRequest) -> None:  # noqa: ARG004 - one signature
        """Check that the splits of the recipe exist.

        Raises:
            RecipeError: RC811.
        """
        for split in request.splits:
            if split not in maker.SPLITS:
                raise RecipeError(errors.no_tasks("textworld", split, have=maker.SPLITS))

    def worker_argument(self) -> Any:
        """Return a folder for links."""
        return {"scratch": tempfile.gettempdir()}

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List games of a split, and generate those that are not in the cache.

        Raises:
            RecipeError: RC761, RC811, RC823.
        """
        if split not in maker.SPLITS:
            raise RecipeError(errors.no_tasks("textworld", split, have=maker.SPLITS))
        names = [f"{split}/{seed}/{index}" for index in range(size or maker.SPLITS[split])]
        self._provide(names)
        return [{"game": name} for name in names]

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task.

        Raises:
            RecipeError: RC761, RC822, RC823.
        """
        self._provide([self._named(task) for task in tasks])  # the cache may have been emptied
        return super().start(tasks)

    def game_columns(self, task: Task) -> Mapping[str, Any]:
        """Return the file of the game of a task."""
        return {"file": str(maker.place(self.context.cache, self.size, self._named(task)).resolve())}

    def _named(self, task: Task) -> str:
        name = task.columns.get("game")
        wrong = maker.problem(name) if isinstance(name, str) else "it has no column `game` with a name"
        if wrong is not None:
            raise RecipeError(errors.no_such_game(task.id, name, wrong))
        return str(name)

    def _provide(self, names: Sequence[str]) -> None:
        display = Progress()

        def progress(done: int, total: int) -> None:
            if done == total or done % 10 == 0:
                display.say(f"{self.context.stage}: made {done} of {total} games")

        try:
            maker.provide(self.context.cache, self.size, names, progress)
        except maker.GenerationError as error:
            raise RecipeError(errors.games_cannot_be_made("textworld", str(error))) from None
        except OSError as error:
            raise RecipeError(run_errors.cannot_write(str(self.context.cache), error.strerror or str(error))) from None

    def _beginning(self, index: int, task: Task) -> StepRequest:
        return replace(super()._beginning(index, task), lane=task.id)

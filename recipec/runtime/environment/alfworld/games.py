"""Household games as an environment: lists the games, which worker processes play."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from recipec.diagnostics.errors import data as data_errors, environment as errors
from recipec.diagnostics.model import RecipeError
from recipec.diagnostics.phrases import listed
from recipec.host.preflight import PreflightRequest
from recipec.package_files import named_file
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.alfworld import game_maker
from recipec.runtime.environment.worker_env import WorkerEnv
from recipec.runtime.environment.workers import StepRequest
from recipec.runtime.protocols import Policy
from recipec.spec import environment as specs

SUFFIX = ".tw-pddl"


class Alfworld(WorkerEnv):
    """Household games; see :class:`recipec.spec.environment.Alfworld`.

    The column ``game`` of a task names its game: ``split/seed/index/goal`` where games are generated, else a file below
    ``games``.  A fulfilled task has reward 10, all else 0, as in GiGPO's released environment; the state key is the
    observation without history.  Episodes of one game share a process, which has loaded it once.

    References:
        Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021.
        Feng et al., `GiGPO <https://arxiv.org/abs/2505.10978>`_, 2025: reward and state key.
    """

    handler = "recipec.runtime.environment.alfworld.worker:serve"
    shipped = "alfworld"

    def __init__(self, spec: specs.Alfworld, context: StageContext, *, policy: Policy) -> None:
        """Find the games.

        Raises:
            RecipeError: RC716, RC811; the errors of :class:`.PromptBuilder`.
        """
        self.folder = None if spec.games is None else named_file(context.root, spec.games)
        self.goals = spec.goals or game_maker.GOALS
        if importlib.util.find_spec("alfworld") is None:
            raise RecipeError(data_errors.package_missing("alfworld", "envs", "environment `alfworld`"))
        if self.folder is not None and next(self.folder.rglob(f"*{SUFFIX}"), None) is None:
            raise _no_games(str(spec.games), "", self.folder)
        super().__init__(spec, context, policy=policy)

    @staticmethod
    def preflight(spec: specs.Alfworld, request: PreflightRequest) -> None:
        """Check that the splits of the recipe have games.

        Raises:
            RecipeError: RC811, there is no such split.
        """
        for split in request.splits:
            if spec.games is None and split not in game_maker.SIZES:
                raise RecipeError(errors.no_tasks("alfworld", split, have=game_maker.SIZES))
            folder = named_file(request.root, spec.games or "")
            if spec.games is not None and next((folder / split).rglob(f"*{SUFFIX}"), None) is None:
                raise _no_games(spec.games, split, folder)

    def worker_argument(self) -> Any:
        """Return the folder of games, if the recipe has one."""
        return {"folder": None if self.folder is None else str(self.folder.resolve())}

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List games of a split: generated ones, or those of the user in a random order from ``seed``.

        Raises:
            RecipeError: RC811, there is no such split.
        """
        if self.folder is not None:
            games = self._files(self.folder, split, seed)
            return [{"game": name, "kind": kind} for name, kind in games[:size]]
        if split not in game_maker.SIZES:
            raise RecipeError(errors.no_tasks("alfworld", split, have=game_maker.SIZES))
        names = game_maker.names(split, size, seed, self.goals)
        return [{"game": name, "kind": name.rpartition("/")[2]} for name in names]

    def game_columns(self, task: Task) -> Mapping[str, Any]:
        """Return the game of a task.

        Raises:
            RecipeError: RC822, there is no such game.
        """
        name = task.columns.get("game")
        if not isinstance(name, str):
            raise RecipeError(errors.no_such_game(task.id, name, "it has no column `game` with a name"))
        if self.folder is not None:
            file = (self.folder / name).resolve()
            if not (file.is_file() and file.is_relative_to(self.folder.resolve())):
                raise RecipeError(errors.no_such_game(task.id, name, "there is no such file below `games`"))
        elif (problem := game_maker.problem(name)) is not None:
            raise RecipeError(errors.no_such_game(task.id, name, problem))
        return {"game": name}

    def _beginning(self, index: int, task: Task) -> StepRequest:
        return replace(super()._beginning(index, task), lane=task.id)

    def _files(self, folder: Path, split: str, seed: int) -> list[tuple[str, str]]:
        """Find the games of the goals; as in ALFWorld, those with sliced or movable things are left out."""
        games = []
        for file in (folder / split).rglob(f"*{SUFFIX}") if (folder / split).is_dir() else ():
            name = file.relative_to(folder).as_posix()
            kind = next((goal for goal in game_maker.GOALS if goal in name), "")
            odd = "Sliced" in name or "movable" in name
            if not odd and (kind in self.goals or not kind):
                games.append((name, kind))
        if not games:
            raise _no_games(folder.name, split, folder)
        games.sort()
        Random(seed).shuffle(games)  # noqa: S311 - an order, not a secret
        return games


def _no_games(shown: str, split: str, folder: Path) -> RecipeError:
    inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    games = f"no folder `{split}` with `.tw-pddl` files" if split else "no `.tw-pddl` file"
    remedy = "name the folder with `train`, `valid_seen`, `valid_unseen`, or leave `games` out to have them generated"
    return RecipeError(errors.no_tasks("alfworld", split, f"{shown} has {games}; it has {listed(inside, 8)}", remedy))

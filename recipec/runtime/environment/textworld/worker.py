"""Play generated text adventures with TextWorld, in a worker process.

One interpreter plays all games of a process.  Results of actions are cached, and an episode other than the last played
one is replayed from its beginning.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import jericho
import jericho.jericho as interpreter
import textworld
from textworld.envs import JerichoEnv, TWInform7

_REMEMBERED = 1 << 14
_STATUS = re.compile(r">?\s*-= [^=]* =-\d+/\d+\s*$")
"""The status line: room, score and moves."""
_INFOS = textworld.EnvInfos(
    description=True, inventory=True, admissible_commands=True, objective=True, score=True, max_score=True
)


class Player:
    """Plays games, one at a time."""

    def __init__(self, scratch: str) -> None:
        story = JerichoEnv(_INFOS)
        story._jericho = _machine(scratch)  # noqa: SLF001 - else it would copy a library for each game
        self._env = TWInform7(story)
        self._game = ""
        self._reached: tuple[str, ...] | None = None
        self._score = 0
        self._observed: OrderedDict[tuple[str, tuple[str, ...]], dict[str, Any]] = OrderedDict()

    def at(self, game: str, actions: tuple[str, ...]) -> dict[str, Any]:
        """Return the result of the last of ``actions``, taken from the beginning."""
        if (game, actions) not in self._observed:
            if not actions or (self._game, self._reached) != (game, actions[:-1]):
                self._keep(game, (), self._begin(game))
                for taken in range(1, len(actions)):
                    self._keep(game, actions[:taken], self._act(actions[taken - 1]))
            if actions:
                self._keep(game, actions, self._act(actions[-1]))
        return self._observed[game, actions]

    def _keep(self, game: str, actions: tuple[str, ...], observed: dict[str, Any]) -> None:
        self._reached = actions
        self._observed[game, actions] = observed
        if len(self._observed) > _REMEMBERED:
            self._observed.popitem(last=False)

    def _begin(self, game: str) -> dict[str, Any]:
        if game != self._game:
            self._env.load(game)
            self._game = game
        self._env.seed(1)
        self._reached, self._score = None, 0
        state = self._env.reset()
        return self._said(state, state["description"].strip())  # without the title, which is ASCII art

    def _act(self, action: str) -> dict[str, Any]:
        self._reached = None
        state, _, _ = self._env.step(action)
        return self._said(state, _STATUS.sub("", state["feedback"]).strip())

    def _said(self, state: Any, text: str) -> dict[str, Any]:
        """Return the observation and the share of the score that was gained."""
        gained, self._score = (state["score"] or 0) - self._score, state["score"] or 0
        return {
            "observation": text,
            "goal": state["objective"] or "",
            "actions": list(state["admissible_commands"]),
            "state": f"{state['description'].strip()}\n\n{state['inventory'].strip()}",
            "reward": gained / (state["max_score"] or 1),
            "terminated": bool(state["won"] or state["lost"]),
        }


def _machine(scratch: str) -> Any:
    """Load the interpreter in place; its loader would copy it, and a worker may not write files."""
    tempfile.tempdir, copied = scratch, shutil.copyfile
    shutil.copyfile = os.symlink  # type: ignore[assignment]
    try:
        library = interpreter._load_frotz_lib()  # noqa: SLF001 - the package has no public interface for it
    finally:
        shutil.copyfile = copied
    machine = object.__new__(jericho.FrotzEnv)
    machine.frotz_lib, machine._cache, machine._bindings = library, {}, None
    return machine


def serve(argument: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Handler of ``worker_pool``; :class:`recipec.runtime.environment.workers.Workers` documents the protocol.

    A task names the ``file`` of its game; ``scratch`` of the argument is a folder for links.
    """
    player = Player(str(argument["scratch"]))

    def answer(request: Mapping[str, Any]) -> Any:
        if "ready" in request:
            return True
        return player.at(str(request["task"]["file"]), tuple(request["actions"]))

    return answer

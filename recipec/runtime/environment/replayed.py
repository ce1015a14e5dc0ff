"""Record timeouts and failed tool calls of a step, and replay them when the step is run again.

A continued run must be bit-identical to an uninterrupted one.  Timeouts and failed tool calls are the only results of
an environment that the same turns do not reproduce.  For the same reason a run over several processes has one
environment, the leader's, and all of them get its answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from recipec.diagnostics.errors.run import unreadable_run
from recipec.diagnostics.model import RecipeError
from recipec.host.checksums import check, write_with_sum
from recipec.host.ranks import Ranks
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import TIMEOUT, EpisodeState, Turn
from recipec.runtime.protocols import Environment

_AGAIN = 5
"""Attempts for an answer that came in time before."""
_FIELDS = tuple(f.name for f in fields(EpisodeState) if f.name not in {"task", "notes"})

Place = tuple[int, int]
Kept = Mapping[str, Any]


class ReplayedEnvironment(Environment):
    """An environment with the timeouts and failed tool calls of the first attempt at a step.

    Calls are counted from ``begin``: the same policy and random numbers lead to the same calls, so the number of a
    call and an index in it identify a turn.

    Example: ``ReplayedEnvironment(environment).begin(None)`` for a first attempt.
    """

    def __init__(self, build: Callable[[], Environment], ranks: Ranks) -> None:
        """Wrap the environment that ``build`` makes, which the leader calls."""
        self.ranks = ranks
        self._built: list[Environment] = []

        def begun() -> tuple[list[str], bool]:
            self._built.append(build())
            return list(self.inner.stops), self.inner.reads_variables

        stops, self.reads_variables = ranks.on_leader(begun)
        self.stops = tuple(stops)
        self.noted: dict[Place, Kept] = {}
        """Timeouts and failures since ``begin``: the state by the number of the call and the index in it."""
        self._recorded: Mapping[Place, Kept] | None = None
        self._calls = 0

    @property
    def inner(self) -> Environment:
        """The environment itself, which the leader has."""
        return self._built[0]

    def alone(self) -> ReplayedEnvironment:
        """Return the same environment for the leader alone, with no exchange between ranks in its calls."""
        return ReplayedEnvironment(lambda: self.inner, Ranks())

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List the tasks of the environment."""
        return self.ranks.on_leader(lambda: self.inner.tasks(split, size, seed))

    def begin(self, recorded: Mapping[Place, Kept] | None) -> None:
        """Begin a step; ``recorded`` is the ``noted`` of an interrupted attempt, None if there was no attempt."""
        self.noted, self._recorded, self._calls = {}, recorded, 0

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task."""
        return self._asked(tasks, lambda wanted: self.inner.start([tasks[i] for i in wanted]))

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Take one turn of each episode."""
        tasks = [position.task for position in positions]
        return self._asked(
            tasks, lambda wanted: self.inner.step([positions[i] for i in wanted], [turns[i] for i in wanted])
        )

    def close(self) -> None:
        """Stop the worker processes."""
        for built in self._built:
            built.close()

    def _asked(self, tasks: Sequence[Task], ask: Callable[[list[int]], list[EpisodeState]]) -> list[EpisodeState]:
        """Let the leader ask; return its answers, which on other ranks are without the environment's private data."""
        mine: list[EpisodeState] = []

        def recorded() -> list[Kept]:
            mine.extend(self._answers(tasks, ask))
            return [_kept(state) for state in mine]

        answers = self.ranks.on_leader(recorded)
        if mine:
            return mine
        return [_again(EpisodeState(task, ()), kept) for task, kept in zip(tasks, answers, strict=True)]

    def _answers(self, tasks: Sequence[Task], ask: Callable[[list[int]], list[EpisodeState]]) -> list[EpisodeState]:
        """Get the states that did not time out before; in a second attempt, repeat calls that now fail or time out."""
        call, self._calls = self._calls, self._calls + 1
        known = {place: kept for (number, place), kept in (self._recorded or {}).items() if number == call}
        states = {place: _again(EpisodeState(tasks[place], ()), kept) for place, kept in known.items() if _late(kept)}
        wanted = [place for place in range(len(tasks)) if place not in states]
        for _ in range(1 if self._recorded is None else _AGAIN):
            states |= dict(zip(wanted, ask(wanted), strict=True)) if wanted else {}
            wanted = [place for place in wanted if _clocked(states[place]) and place not in known]
        states |= {place: _again(states[place], kept) for place, kept in known.items()}
        self.noted |= {(call, place): _kept(states[place]) for place in sorted(states) if _clocked(states[place])}
        return [states[place] for place in range(len(tasks))]


def _clocked(position: EpisodeState) -> bool:
    return position.failures > 0 or _late({"error": position.error})


def _late(kept: Kept) -> bool:
    return str(kept["error"] or "").startswith(TIMEOUT)


def _kept(position: EpisodeState) -> Kept:
    return {name: getattr(position, name) for name in _FIELDS}


def _again(position: EpisodeState, kept: Kept) -> EpisodeState:
    """Return the recorded state, with the private data of the new answer."""
    return replace(position, **{**kept, "context_ids": tuple(kept["context_ids"])})


def begin(environment: Environment | None, rows: Path) -> None:
    """Begin the step with the rollout file ``rows``, with the timeouts and failures recorded for it."""
    if isinstance(environment, ReplayedEnvironment):
        path = late_file(rows)
        environment.begin(_read(path) if path.exists() or rows.exists() else None)


def note(environment: Environment | None, rows: Path) -> None:
    """Write the timeouts and failures of a step before its rollouts; without any, no file is written."""
    if isinstance(environment, ReplayedEnvironment) and environment.noted:
        lines = [[*place, environment.noted[place]] for place in sorted(environment.noted)]
        write_with_sum(late_file(rows), json.dumps(lines, ensure_ascii=False) + "\n")


def late_file(rows: Path) -> Path:
    """Return the file for the timeouts and failed calls of a step.

    >>> late_file(Path("samples/step-000003.jsonl")).name
    'late-step-000003.json'
    """
    return rows.with_name(f"late-{rows.stem}.json")


def _read(path: Path) -> dict[Place, Kept]:
    if not path.exists():
        return {}
    try:
        check(path)
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {(int(call), int(place)): kept for call, place, kept in entries}
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(unreadable_run(str(path), error)) from error

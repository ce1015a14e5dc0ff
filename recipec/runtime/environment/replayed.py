"""Answers that depended on a clock or a network: written down with the step, given again when the step is run again.

A continued run must end with the bits of one that was never interrupted.  That an answer came too late, or that a
tool did not work, are the two things about an environment that the same turns may not bring about a second time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from recipec.run.artifacts import write_atomic
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.protocols import Environment

TIMEOUT = "timeout"
_AGAIN = 5
"""How often an answer is asked for that came before, and in time."""
_FIELDS = tuple(f.name for f in fields(EpisodeState) if f.name not in {"task", "world"})

Place = tuple[int, int]
Kept = Mapping[str, Any]


class ReplayedEnvironment(Environment):
    """An environment whose timeouts and failed tool calls are those of the first attempt at a step.

    Calls are counted from ``begin`` on: the same policy and the same draws make the same calls, so that the number
    of a call and a place in it name one turn.

    Example: ``ReplayedEnvironment(environment).begin(None)``: a first attempt.
    """

    def __init__(self, inner: Environment) -> None:
        """Wrap an environment."""
        self.inner = inner
        self.stops = inner.stops
        self.noted: dict[Place, Kept] = {}
        """Such answers since ``begin``: number of the call and place in it, to where the episode then stood."""
        self._recorded: Mapping[Place, Kept] | None = None
        self._calls = 0

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List the environment's own tasks."""
        return self.inner.tasks(split, size, seed)

    def begin(self, recorded: Mapping[Place, Kept] | None) -> None:
        """Begin a step; ``recorded`` is what an interrupted attempt at it noted, ``None`` if there was none."""
        self.noted, self._recorded, self._calls = {}, recorded, 0

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task."""
        return self._asked(tasks, lambda wanted: self.inner.start([tasks[i] for i in wanted]))

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Answer one turn taken from each position."""
        tasks = [position.task for position in positions]
        return self._asked(
            tasks, lambda wanted: self.inner.step([positions[i] for i in wanted], [turns[i] for i in wanted])
        )

    def close(self) -> None:
        """End what runs outside this process."""
        self.inner.close()

    def _asked(self, tasks: Sequence[Task], ask: Callable[[list[int]], list[EpisodeState]]) -> list[EpisodeState]:
        """Ask for every place that did not time out before; on a second attempt no other one may, nor fail."""
        call, self._calls = self._calls, self._calls + 1
        known = {place: kept for (number, place), kept in (self._recorded or {}).items() if number == call}
        found = {place: _again(EpisodeState(tasks[place], ()), kept) for place, kept in known.items() if _late(kept)}
        wanted = [place for place in range(len(tasks)) if place not in found]
        for _ in range(1 if self._recorded is None else _AGAIN):
            found |= dict(zip(wanted, ask(wanted), strict=True)) if wanted else {}
            wanted = [place for place in wanted if _clocked(found[place]) and place not in known]
        found |= {place: _again(found[place], kept) for place, kept in known.items()}
        self.noted |= {(call, place): _kept(found[place]) for place in sorted(found) if _clocked(found[place])}
        return [found[place] for place in range(len(tasks))]


def _clocked(position: EpisodeState) -> bool:
    return position.failures > 0 or _late({"error": position.error})


def _late(kept: Kept) -> bool:
    return str(kept["error"] or "").startswith(TIMEOUT)


def _kept(position: EpisodeState) -> Kept:
    return {name: getattr(position, name) for name in _FIELDS}


def _again(position: EpisodeState, kept: Kept) -> EpisodeState:
    """Stand where the episode stood before; the environment's own notes are those of the answer that came now."""
    return replace(position, **{**kept, "context_ids": tuple(kept["context_ids"])})


def begin(environment: Environment | None, rows: Path) -> None:
    """Begin a step whose rows are kept at ``rows``, and beside them what depended on a clock."""
    if isinstance(environment, ReplayedEnvironment):
        path = beside(rows)
        environment.begin(_read(path) if path.exists() or rows.exists() else None)


def note(environment: Environment | None, rows: Path) -> None:
    """Write down what of a step depended on a clock, before its rows are; no file where nothing did."""
    if isinstance(environment, ReplayedEnvironment) and environment.noted:
        lines = [[*place, environment.noted[place]] for place in sorted(environment.noted)]
        write_atomic(beside(rows), json.dumps(lines, ensure_ascii=False) + "\n")


def beside(rows: Path) -> Path:
    """Return where timeouts and failed calls of a step are kept.

    >>> beside(Path("samples/step-000003.jsonl")).name
    'late-step-000003.json'
    """
    return rows.with_name(f"late-{rows.stem}.json")


def _read(path: Path) -> dict[Place, Kept]:
    if not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    return {(int(call), int(place)): kept for call, place, kept in found}

"""A corridor in this process: a real environment to the protocol's letter, which may be late when it is told to be."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.protocols import Environment

LATE = "late"
"""A file of the recipe's folder; each line names a task and a turn whose answer comes too late."""


class Corridor(Environment):
    """Walk on with a turn whose first token is even; the last door pays 1.

    With a number for ``history`` every turn's prompt is written anew, else it goes on from the turn before.
    """

    stops: tuple[str, ...] = ()

    def __init__(self, spec: Any, context: Any, *, policy: Any) -> None:
        """Take the parameters and the policy."""
        self.policy = policy
        self.appends = spec.history == "append_only"
        self.max_turns = spec.max_turns
        path = Path(context.root) / LATE
        lines = path.read_text().split("\n") if path.exists() else []
        self.late = {(int(line.split()[0]), int(line.split()[1])) for line in lines if line}

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
        """List corridors of growing length."""
        return [{"goal": f"{split} {i + seed}", "doors": 1 + i % 3} for i in range(size or 4)]

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin before the first door."""
        return [self.shown(EpisodeState(task, (), state="0", notes=0), ()) for task in tasks]

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Answer each turn."""
        return [self.one(p, t) for p, t in zip(positions, turns, strict=True)]

    def one(self, before: EpisodeState, turn: Turn) -> EpisodeState:
        """Open a door, or not."""
        number = before.turns + 1
        if (before.task.id, number) in self.late:
            return replace(before, turns=number, ended=True, error="timeout: no answer", kept=len(turn.ids), reward=0.0)
        valid = turn.ids[0] % 2 == 0
        door = before.notes + valid
        there = door >= before.task.columns["doors"]
        after = replace(
            before,
            turns=number,
            state=str(door),
            notes=door,
            ended=there or number >= self.max_turns,
            truncated=not there and number >= self.max_turns,
            kept=len(turn.ids),
            reward=float(there),
            valid=valid,
            calls=1,
            observation=f" {door}>",
        )
        return self.shown(after, (*before.context_ids, *turn.ids))

    def shown(self, position: EpisodeState, kept: tuple[int, ...]) -> EpisodeState:
        """Write what the policy reads next."""
        text = f"{position.task.columns.get('goal', 'go')} {position.state}>"
        ids = tuple(self.policy.encode(position.observation if self.appends and kept else text))
        return replace(position, context_ids=(*kept, *ids) if self.appends else ids)

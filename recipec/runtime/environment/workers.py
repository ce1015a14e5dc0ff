"""Games in worker processes: a hang, a crash or an invalid answer fails one episode, never the run.

A request has all earlier actions of an episode, so a worker's games are only a cache: after the loss of a worker the
same actions are taken again, each with its own deadline.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from recipec.host.worker_pool import MEMORY, WorkerFailure, WorkerPool
from recipec.runtime.environment.episode_state import TIMEOUT
from recipec.runtime.environment.worker_main import MISSING, BadObservation, GameError, checked

LANES = 2
TASKS_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class StepRequest:
    """The actions of an episode, with the one to take last; without actions, its beginning.

    Example: ``StepRequest({"game": "a.z8"}, 7, ("look", "go north"))``.
    """

    task: Mapping[str, Any]
    seed: int
    actions: tuple[str, ...] = ()
    lane: int = 0
    """Episodes of one lane share a worker; any number."""
    label: str = ""
    """Separates the games of episodes that cannot be replayed."""
    expected: str | None = None
    """The observation before the last action, which a replay must reproduce."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """The answer of a game.

    Example: ``StepResult("You are in a hall.", reward=1.0, terminated=True)``.
    """

    observation: str
    goal: str = ""
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    valid: bool = True
    calls: int = 1
    actions: tuple[str, ...] = ()
    state: Any = None


class Workers:
    """Running games of one handler, ``module:function``, which returns :func:`.worker_main.live`.

    Example: ``Workers("recipec.runtime.environment.gymnasium_worker:serve", {"id": "Taxi-v3"}, name="Taxi-v3",
    timeout=30.0)``.
    """

    def __init__(
        self,
        handler: str,
        argument: Any,
        *,
        name: str,
        timeout: float,
        replayable: bool = True,
        lanes: int = LANES,
        memory: int = MEMORY,
    ) -> None:
        self.timeout = timeout
        self.replayable = replayable
        count = max(1, min(lanes, os.cpu_count() or 1))
        self.what = f"environment `{name}`"
        self._pools = [WorkerPool(handler, argument, what=self.what, memory=memory) for _ in range(count)]
        self._closed = False
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="games")

    def ask(self, wanted: Sequence[StepRequest]) -> list[StepResult | str]:
        """Return a result for each episode, lanes in parallel, or text with the reason of a failure.

        Raises:
            HandlerError: the handler refused its argument.
        """
        answers: list[StepResult | str] = [""] * len(wanted)

        def one_lane(lane: int) -> None:
            for i, one in enumerate(wanted):
                if one.lane % len(self._pools) == lane and not self._closed:
                    answers[i] = self._one(self._pools[lane], one)

        used = {one.lane % len(self._pools) for one in wanted}
        if len(used) == 1:
            one_lane(*used)
        else:
            for done in [self._threads.submit(one_lane, lane) for lane in sorted(used)]:
                done.result()
        return answers

    def begin(self) -> None:
        """Start a worker, so that a handler which refuses its argument fails now.

        Raises:
            HandlerError: the handler refused its argument.
        """
        self._pools[0].ask([{"ready": True}], self.timeout)

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]] | WorkerFailure:
        """List the tasks of the handler, or return why there is no list.

        Raises:
            HandlerError: the handler refused its argument.
        """
        (rows,) = self._pools[0].ask([{"tasks": [split, size, seed]}], TASKS_SECONDS, f"`tasks` of {self.what}")
        if isinstance(rows, WorkerFailure) or (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            return rows
        return WorkerFailure("raised", "ValueError", "it listed no mappings")

    def close(self) -> None:
        """Stop the workers, also those that are waited for."""
        self._closed = True
        for pool in self._pools:
            pool.interrupt()
        self._threads.shutdown(wait=True)
        for pool in self._pools:
            pool.close()

    def _one(self, pool: WorkerPool, one: StepRequest) -> StepResult | str:
        result = self._take(pool, one, len(one.actions))
        if result != MISSING:
            return result
        if not self.replayable:
            return "lost: the process that held the episode ended, and it cannot be replayed"
        for taken in range(len(one.actions) + 1):
            result = self._take(pool, one, taken)
            if isinstance(result, str):
                return result if result != MISSING else "crashed: its process does not keep the game"
            if taken == len(one.actions) - 1 and one.expected is not None and result.observation != one.expected:
                return "replay: the same actions did not lead to the same observation"
        return result

    def _take(self, pool: WorkerPool, one: StepRequest, taken: int) -> StepResult | str:
        request = {"task": one.task, "seed": one.seed, "label": one.label, "actions": one.actions[:taken]}
        what = f"`{'step' if taken else 'reset'}` of {self.what}"
        (answer,) = pool.ask([request], self.timeout, what)
        if answer == MISSING:
            return MISSING
        if isinstance(answer, WorkerFailure):
            return _reason(answer, self.timeout)
        try:
            observed = checked(answer)
        except BadObservation as error:
            return f"garbage: {error}"
        return StepResult(**{**observed, "actions": tuple(observed["actions"])})


def _reason(lost: WorkerFailure, seconds: float) -> str:
    if lost.reason == "late":
        return f"{TIMEOUT}: no answer within {seconds:g} s"
    if lost.reason == "crashed":
        return "crashed: its process died"
    if lost.error == BadObservation.__name__:
        return f"garbage: {lost.message[:300]}"
    if lost.error == GameError.__name__:
        return lost.message[:600]
    where = f" (line {lost.line})" if lost.line else ""
    return f"{lost.error}{where}: {lost.message[:300]}"

"""Rollouts of coming steps, sampled from weights of at most k steps ago while the policy is trained.

Weights are handed over every k steps, and with them the rollouts of the next k steps are requested.  Rows of step t
are of the weights after ``k * ((t - 1) // k)`` steps, those of step 0 of the first weights: which weights sample a row
depends on the step alone, and on no clock.  Each step has the prompts that it would have without lookahead, so that a
long completion is never left out or put off in favour of a short one.

With several ranks and an engine in processes of its own, the leader samples, and all ranks have a step's rows when
they take it: the thread that samples exchanges nothing with other ranks, which meanwhile exchange gradients.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from recipec.host.ranks import Ranks
from recipec.runtime.protocols import Part, TaskSource

Columns = dict[str, Any]
"""Columns by signal, and metrics under ``metric/``."""


@dataclass(frozen=True, slots=True)
class _Requested:
    """The rollouts of one step: its tasks, and its rows once they are sampled."""

    drawn: Columns
    before: Mapping[str, Any]
    """State of the source before the tasks were drawn."""
    rows: Future[Columns]


class Lookahead(Part):
    """Requests the rollouts of coming steps ahead of the updates, a bounded number of steps.

    With ``overlaps`` they are sampled in a thread while the policy is trained; otherwise at once.  A checkpoint has the
    rows that no step has taken yet.

    Example: ``Lookahead(1, source, sample, renew, overlaps=False)``; then ``begin(total, draw)`` and, in each step,
    ``take(step)``.
    """

    def __init__(
        self,
        staleness: int,
        source: TaskSource,
        sample: Callable[[int, Columns], Columns],
        renew: Callable[[int], None],
        *,
        overlaps: bool,
        ranks: Ranks | None = None,
    ) -> None:
        """Request nothing yet.

        Args:
            staleness: Steps that weights may be old, 1 or more.
            source: What tasks are drawn from.
            sample: Samples the rows of a step from its tasks.
            renew: Hands over the weights after a number of steps; nothing is sampled meanwhile.
            overlaps: Whether ``sample`` may run while the policy is trained.
            ranks: The processes of the run, of which the leader alone calls ``sample`` where it overlaps.
        """
        self.staleness, self.source = staleness, source
        self.sample, self.renew = sample, renew
        self._requested: deque[_Requested] = deque()
        self._ranks = ranks if ranks is not None and overlaps else Ranks()
        self._thread = ThreadPoolExecutor(1, "rollouts") if overlaps and self._ranks.leads else None

    def begin(self, total: int, draw: Callable[[], Columns]) -> None:
        """Take over the number of steps, beyond which nothing is sampled, and what draws the tasks of the next one."""
        self.total, self.draw = total, draw

    def take(self, step: int) -> tuple[Columns, Columns]:
        """Return tasks and rows of a step; every ``staleness`` steps, request those of the next ones before.

        Raises:
            RecipeError: what the sampling of this step raised.
        """
        if step % self.staleness == 0:
            self.settle()
            self.renew(step)
            for ahead in range(step + len(self._requested), min(step + self.staleness, self.total - 1) + 1):
                self._request(ahead)
        request = self._requested.popleft()
        return request.drawn, self._ranks.on_leader(request.rows.result)

    def settle(self) -> None:
        """Wait until nothing is being sampled; what failed is raised in its step."""
        wait([requested.rows for requested in self._requested])

    def state(self) -> dict[str, Any]:
        """Return the rows that no step has taken yet, and the place in the data where their tasks begin."""
        self.settle()
        if not self._requested:
            return {}
        rows = self._ranks.on_leader(lambda: [one.rows.result() for one in self._requested])
        return {"source": self._requested[0].before, "rows": rows}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue with those rows; their tasks are drawn again, which leaves the source where it was."""
        self.source.load(state["source"])
        for rows in state["rows"]:
            before = self.source.state()
            self._requested.append(_Requested(self.draw(), before, _done(rows)))

    def close(self) -> None:
        """Sample nothing more."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _request(self, step: int) -> None:
        before = self.source.state()
        drawn = self.draw()
        if self._thread is not None:
            rows = self._thread.submit(self.sample, step, drawn)
        else:
            rows = _done(self.sample(step, drawn) if self._ranks.leads else {})
        self._requested.append(_Requested(drawn, before, rows))


def _done(rows: Columns) -> Future[Columns]:
    future: Future[Columns] = Future()
    future.set_result(rows)
    return future

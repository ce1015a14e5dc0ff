"""When the ranks of a run begin again: one policy, whatever starts them.

A rank that is lost takes the others with it, because an update needs all of them.  They begin again from the last
checkpoint.
"""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch._C._distributed_c10d import PrefixStore, TCPStore

from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.model import Diagnostic

T = TypeVar("T")
Ended = Mapping[str, Any]
"""How a rank ended, as JSON values: ``lost`` is whether it may begin again, ``diagnostics`` what it was refused."""
Attempt = tuple[dict[int, Ended], tuple[int, str] | None]
"""How the ranks ended that did, and which of them died first, how."""
_GRACE, _GRACE_LOST = 20.0, 5.0
"""Seconds between the end of one rank and that of the others, which may wait for it in an exchange; and where it has
itself lost another, which will be reported next."""


@dataclass(slots=True)
class Gang(ABC):
    """The ranks of a run, which end together and begin again together.

    Example: ``ProcessGang(2, 3, Path("runs/a/logs"), print).run(rank_main, arguments)``.
    """

    size: int
    max_restarts: int
    logs: Path
    """Folder of what the ranks print; that of the leader goes where this process prints."""
    say: Callable[[str], None]
    stopped: int = field(default=0, init=False)
    """Signals to stop that came so far: the first one lets ranks finish their step, the second one ends them."""
    restarts: int = field(default=0, init=False)
    since: float | None = field(default=None, init=False)
    """When the first rank ended so that the others cannot go on."""

    @abstractmethod
    def attempt(self, entry: Callable[[T], Ended], argument: T) -> Attempt:
        """Run ``entry(argument)`` in every rank once; when one dies, end the others.

        Raises:
            RecipeError: the ranks cannot be started here.
        """

    def run(self, entry: Callable[[T], Ended], argument: T) -> list[Ended] | Diagnostic:
        """Run ``entry(argument)`` in every rank; return how the ranks ended, or why they could not go on.

        A signal to stop may end a rank before it can finish a step: then there is no more to return than that.

        Raises:
            RecipeError: the ranks cannot be started here.
        """
        while True:
            ended, died = self.attempt(entry, argument)
            lost = died or self._unanswered(ended)
            if lost is None:
                return [ended[rank] for rank in sorted(ended)]
            rank, how = lost
            if self.stopped == 1:
                self.say(f"rank {rank} {how}, and is not started again because of the signal")
                return []
            if self.stopped or self.restarts >= self.max_restarts:
                return errors.rank_lost(rank, how, self.restarts, str(log_of(self.logs, rank)))
            self.restarts += 1
            self.say(
                f"rank {rank} {how}; starting again from the last checkpoint "
                f"(restart {self.restarts} of {self.max_restarts})"
            )

    def _unanswered(self, ended: Mapping[int, Ended]) -> tuple[int, str] | None:
        """Return a rank that is missing without a refusal that explains it, or one that lost the others."""
        missing = [rank for rank in range(self.size) if rank not in ended]
        refused = any(not one["lost"] and one["diagnostics"] for one in ended.values())
        if missing and not refused:
            return missing[0], "did not answer"
        return next(((rank, "lost the others") for rank, one in ended.items() if one["lost"]), None)

    def rendezvous(self, host: str) -> tuple[PrefixStore, dict[str, str]]:
        """Serve the store by which the ranks of an attempt find each other; return it, and the variables that name it.

        This process serves it and no rank does, so that it outlives each of them.
        """
        server = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        self.since = None
        return PrefixStore(f"attempt-{self.restarts}", server), {
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": host,
            "MASTER_PORT": str(server.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": str(self.restarts),
        }

    def overdue(self, store: PrefixStore, ended: Mapping[int, Ended]) -> bool:
        """Whether ranks still wait for one that ended, or that says in the store that it fails, for too long."""
        failed = any(store.check([f"failed/{rank}"]) for rank in range(self.size))
        if not failed and not any(one["lost"] or one["diagnostics"] for one in ended.values()):
            return False
        now = time.monotonic()
        self.since = self.since or now
        return now - self.since > (_GRACE_LOST if any(one["lost"] for one in ended.values()) else _GRACE)

    @contextmanager
    def counting_signals(self, note: Callable[[], None]) -> Iterator[None]:
        """Count the signals to stop instead of ending; ``note`` is called after each."""

        def count(_number: int, _frame: Any) -> None:
            self.stopped += 1
            note()

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def log_of(logs: Path, rank: int) -> Path:
    """Return the file with what a rank prints.

    >>> log_of(Path("runs/a/logs"), 3).name
    'rank-0003.log'
    """
    return logs / f"rank-{rank:04d}.log"


def print_to(log: Path) -> None:
    """Append to a file what this process and its libraries print from now on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(handle, stream)

"""Start the ranks of a run on this machine by torchrun's API, and start them again when one is lost.

A rank that dies takes the others with it: an update needs all of them.  They begin again from the last checkpoint.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, RunProcsResult, start_processes

from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.model import Diagnostic
from recipec.run.ranks import place

T = TypeVar("T")
Ended = Mapping[str, Any]
"""How a rank ended, as JSON values: ``lost`` is whether it may begin again."""
_GRACE = 20.0  # seconds between the end of one rank and that of the others, which may wait for it in an exchange
_CONNECT = timedelta(seconds=60)
_PDEATHSIG = 1  # of prctl


@dataclass(slots=True)
class Gang:
    """The ranks of a run on this machine.

    Example: ``Gang(2, 3, Path("runs/a/logs"), print).run(rank_main, arguments)``.
    """

    size: int
    max_restarts: int
    logs: Path
    """Folder of what the ranks print; that of the leader goes where this process prints."""
    say: Callable[[str], None]
    stopped: int = 0
    """Signals to stop that came so far."""
    restarts: int = field(default=0, init=False)

    def run(self, entry: Callable[[T], Ended], argument: T) -> list[Ended] | Diagnostic:
        """Run ``entry(argument)`` in every rank; return how the ranks ended, or why they could not go on."""
        for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they log what we report
        while True:
            ended, lost = self._attempt(entry, argument)
            if lost is None and not any(one["lost"] for one in ended.values()):
                return [ended[rank] for rank in sorted(ended)]
            rank, how = lost or next((rank, "lost the others") for rank, one in ended.items() if one["lost"])
            if self.stopped or self.restarts >= self.max_restarts:
                return errors.rank_lost(rank, how, self.restarts, str(log_of(self.logs, rank)))
            self.restarts += 1
            self.say(
                f"rank {rank} {how}; starting again from the last checkpoint "
                f"(restart {self.restarts} of {self.max_restarts})"
            )

    def _attempt(self, entry: Callable[[T], Ended], argument: T) -> tuple[dict[int, Ended], tuple[int, str] | None]:
        """Run the ranks once; return how they ended, and which died, how."""
        server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        store = PrefixStore(f"attempt-{self.restarts}", server)
        given = {
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(server.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": str(self.restarts),
        }
        context = start_processes(
            "recipec",
            _rank,
            {rank: (entry, argument, str(self.logs)) for rank in range(self.size)},
            {rank: {**given, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(self.size)},
            DefaultLogsSpecs(),
        )
        with self._forwarding(context):
            result = self._watched(context, store)
        ended = _ended(store, self.size)
        missing = [rank for rank in range(self.size) if rank not in ended]
        if result is not None and result.failures:
            rank, failure = min(result.failures.items(), key=lambda one: one[1].timestamp)
            how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
            return ended, (rank, f"ended by {how}")
        refused = any(not one["lost"] and one["diagnostics"] for one in ended.values())
        return ended, (missing[0], "did not answer") if missing and not refused else None

    def _watched(self, context: PContext, store: PrefixStore) -> RunProcsResult | None:
        """Wait until all ranks have ended; those that wait for one that has failed are ended."""
        since: float | None = None
        while True:
            result = context.wait(timeout=0.5, period=0.1)
            if result is not None:
                return result
            failed = [rank for rank in range(self.size) if store.check([f"failed/{rank}"])]
            if since is None and (failed or any(_bad(one) for one in _ended(store, self.size).values())):
                since = time.monotonic()
            if since is not None and time.monotonic() - since > _GRACE:
                context.close(signal.SIGKILL)
                return None

    @contextmanager
    def _forwarding(self, context: PContext) -> Iterator[None]:
        """Pass a request to stop on to the ranks; the second one ends them."""

        def forward(_number: int, _frame: Any) -> None:
            self.stopped += 1
            for pid in context.pids().values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if self.stopped == 1 else signal.SIGKILL)

        before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
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


def _rank(entry: Callable[[T], Ended], argument: T, logs: str) -> None:
    """Be one rank: end with the launcher, print to a log, and tell how it ended."""
    os.setsid()  # the terminal's signals go to the launcher alone, which passes them on
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    here = place()
    if not here.leads:
        path = log_of(Path(logs), here.rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    ended = entry(argument)
    client = TCPStore(here.address, here.port, is_master=False, timeout=_CONNECT)
    PrefixStore(f"attempt-{here.attempt}", client).set(f"ended/{here.rank}", json.dumps(ended))
    if ended["lost"]:
        os._exit(1)  # to return would be to wait for the others


def _ended(store: PrefixStore, size: int) -> dict[int, Ended]:
    return {
        rank: json.loads(store.get(f"ended/{rank}").decode()) for rank in range(size) if store.check([f"ended/{rank}"])
    }


def _bad(ended: Ended) -> bool:
    return bool(ended["lost"] or ended["diagnostics"])

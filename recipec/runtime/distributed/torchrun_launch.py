"""Start the ranks of a run on this machine by torchrun's API."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
from torch._C._distributed_c10d import PrefixStore, TCPStore
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, RunProcsResult, start_processes

from recipec.diagnostics.errors import ranks as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.ranks import end_with_parent, place
from recipec.runtime.distributed.gang import Attempt, Ended, Gang, T, log_of, print_to

_CONNECT = timedelta(seconds=60)
_CHANGED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Signals that torch handles in the process that starts others."""


def check_devices(device: str, devices: int) -> None:
    """Refuse more ranks than there are GPUs, where they are to run on GPUs.

    Raises:
        RecipeError: RC779, there are fewer.
    """
    if device != "cpu" and torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise RecipeError(errors.too_few_devices(devices, torch.cuda.device_count()))


@dataclass(slots=True)
class ProcessGang(Gang):
    """The ranks of a run as processes of this machine.

    Example: ``ProcessGang(2, 3, Path("runs/a/logs"), print).run(rank_main, arguments)``.
    """

    def attempt(self, entry: Callable[[T], Ended], argument: T) -> Attempt:
        """Run the ranks once; return how they ended, and which died, how."""
        for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they log what we report
        store, address = self.rendezvous("127.0.0.1")
        with _own_signals():
            context = start_processes(
                "recipec",
                _rank,
                {rank: (entry, argument, str(self.logs)) for rank in range(self.size)},
                {rank: {**address, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(self.size)},
                DefaultLogsSpecs(),
            )

        def forward() -> None:
            for pid in context.pids().values():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM if self.stopped == 1 else signal.SIGKILL)

        with self.counting_signals(forward):
            result = self._watched(context, store)
        ended = _ended(store, self.size)
        if result is None or not result.failures:
            return ended, None
        rank, failure = min(result.failures.items(), key=lambda one: one[1].timestamp)
        how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        return ended, (rank, f"ended by {how}")

    def _watched(self, context: PContext, store: PrefixStore) -> RunProcsResult | None:
        """Wait until all ranks have ended; those that wait for one that has failed are ended."""
        while True:
            result = context.wait(timeout=0.5, period=0.1)
            if result is not None:
                return result
            if self.overdue(store, _ended(store, self.size)):
                context.close(signal.SIGKILL)
                return None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what this process does at signals, also where it ignores them; torch lets each raise wherever it comes."""
    before = {number: signal.getsignal(number) for number in _CHANGED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _rank(entry: Callable[[T], Ended], argument: T, logs: str) -> None:
    """Be one rank: end with the launcher, print to a log, and tell how it ended."""
    os.setsid()  # the terminal's signals go to the launcher alone, which passes them on
    end_with_parent(signal.SIGKILL)
    here = place()
    if not here.leads:
        print_to(log_of(Path(logs), here.rank))
    ended = entry(argument)
    client = TCPStore(here.address, here.port, is_master=False, timeout=_CONNECT)
    PrefixStore(f"attempt-{here.attempt}", client).set(f"ended/{here.rank}", json.dumps(ended))
    if ended["lost"]:
        os._exit(1)  # to return would be to wait for the others


def _ended(store: PrefixStore, size: int) -> dict[int, Ended]:
    return {
        rank: json.loads(store.get(f"ended/{rank}").decode()) for rank in range(size) if store.check([f"ended/{rank}"])
    }

"""Runs with ranks that one process starts, as `recipec run` does: which process is killed, and what is left."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from forked_runs import Fault, Runs

from recipec.host.ranks import place
from recipec.runtime.distributed import torchrun_launch

LAUNCHER = -1
"""The process that starts the ranks, among the ranks that can be killed."""
_SUBREAPER = 36  # of prctl


@dataclass
class LaunchedRuns(Runs):
    """Runs with a launcher in a child, which forks the ranks.

    Example: ``LaunchedRuns(folder, disk, 2).run("out", Fault(12, KILLED, whom=LAUNCHER)).code`` is -9.
    """

    launched: ClassVar[bool] = True

    def _placed(self, root: Path, rank: int, port: int, fault: Fault) -> Fault:  # noqa: ARG002 - it launches all ranks
        """Let the ranks that this process starts be forked, and the fault be that of their leader; return its own."""
        shared = (ctypes.c_int * (self.ranks + 1)).from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
        shared[LAUNCHER] = os.getpid()
        begin = torchrun_launch._rank  # noqa: SLF001 - where a rank begins

        def begun(*given: Any) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # torch has changed it before it forked
            here = place()
            shared[here.rank] = os.getpid()
            while not all(shared):
                time.sleep(0.01)
            if here.leads and not here.attempt:
                pid = ctypes.addressof(shared) + fault.whom % len(shared) * ctypes.sizeof(ctypes.c_int)
                self.disk.disk_arm(str(root).encode(), fault.call, fault.way, 0, fault.shift, -1, b"", pid)
            begin(*given)

        torchrun_launch._rank = begun  # noqa: SLF001
        torchrun_launch.start_processes = partial(torchrun_launch.start_processes, start_method="fork")
        return Fault(shift=fault.shift)


def adopt_orphans() -> None:
    """Become the parent of every process below this one that outlives its own."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)


def orphans(seconds: float) -> list[str]:
    """Wait for the end of every process below this one; kill those that still run then, and return their commands."""
    until, found = time.monotonic() + seconds, list[str]()
    with suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if time.monotonic() > until:
                tasks = Path("/proc/self/task").glob("*/children")
                for pid in {pid for task in tasks for pid in task.read_text().split()}:
                    found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
                    os.kill(int(pid), signal.SIGKILL)
                until += seconds
            time.sleep(0.02)
    return found

"""The lock of a run directory: one process at a time writes into it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError

_GUARD = 10.0  # seconds; another process has the guard for a moment
_AGAIN = 0.5  # seconds


@contextmanager
def run_lock(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Lock a run directory for this process; ``wait`` seconds for a holder that is about to be gone.

    The operating system drops the lock of a process that ends. Where something is left that still has it, such as a
    process that the holder forked, the lock is taken from it if the holder is provably gone: it ran on this machine,
    since its last start, and has no process any more.

    Raises:
        RecipeError: RC762, another process has it.
    """
    lock, owner, until = FileLock(folder / ".lock"), folder / ".owner", time.monotonic() + wait
    while not _acquired(lock, owner):
        if time.monotonic() > until:
            who = _text(owner).partition("\n")[0] or "another process"
            raise RecipeError(errors.run_in_use(str(folder), who))
        time.sleep(_AGAIN)
    try:
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def _acquired(lock: FileLock, owner: Path) -> bool:
    """Take the lock if it is free, or its holder gone; under a guard, so that lock and owner's name change as one."""
    try:
        with FileLock(owner.with_name(".guard")).acquire(timeout=_GUARD):
            if not _free(lock):
                if not gone(_text(owner)):
                    return False
                Path(lock.lock_file).unlink(missing_ok=True)  # what has it keeps a file without a name
                if not _free(lock):
                    return False
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}\n{machine()}\n", encoding="utf-8")
            return True
    except Timeout:
        return False


def _free(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _text(owner: Path) -> str:
    try:
        return owner.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def gone(owner: str) -> bool:
    r"""Whether the process that wrote ``owner`` has certainly ended.

    >>> gone(f"process {os.getpid()} on here\n{machine()}\n"), gone("process 7 on another machine\n1 2\n"), gone("")
    (False, False, False)
    """
    first, _, where = owner.partition("\n")
    number = first.partition("process ")[2].partition(" ")[0]
    if not number.isdigit() or not machine() or where.strip() != machine():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        return False
    return False


def machine() -> str:
    """Return what numbers of processes belong to: a start of the machine and a namespace; empty if not known."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{start} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""

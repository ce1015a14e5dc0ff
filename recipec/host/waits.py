"""What this process waits for, shown while it takes long: code of the user's may never end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

WAITING = "waiting for "
"""How a line about a wait begins, after the part of the recipe that it is for."""
FIRST = 1.0
"""Seconds after which it is first printed that something is waited for."""
PATIENCE = 20.0
"""Seconds after which it is printed again, or for a later wait for the same."""
_PAUSE = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class _Wait:
    part: str
    what: str
    limit: float | None
    began: float

    def text(self) -> str:
        """Name what is waited for, and how long it may take.

        >>> _Wait("stages.explore", "reward function `score`", 60.0, 0.0).text()
        'reward function `score` of stages.explore, which may take 60 s'
        """
        of = f" of {self.part}" if self.part else ""
        limit = f", which may take {self.limit:g} s" if self.limit is not None else ", which has no limit of time"
        return f"{self.what}{of}{limit}"


_parts: list[str] = []
_waits: list[_Wait] = []


@contextmanager
def working_on(part: str) -> Iterator[None]:
    """Name the part of the recipe, such as ``stages.explore``, that the waits of the block are for."""
    _parts.append(part)
    try:
        yield
    finally:
        _parts.remove(part)


@contextmanager
def waiting(what: str, limit: float | None = None) -> Iterator[None]:
    """Note that the block waits for ``what``, for at most ``limit`` seconds."""
    wait = _Wait(_parts[-1] if _parts else "", what, limit, time.monotonic())
    _waits.append(wait)
    try:
        yield
    finally:
        _waits.remove(wait)


def waited_for() -> str:
    """Return what is waited for at this moment, empty where nothing is.

    >>> with working_on("stages.explore"), waiting("reward function `score`", 60.0):
    ...     waited_for()
    'reward function `score` of stages.explore, which may take 60 s'
    """
    return _waits[-1].text() if _waits else ""


@contextmanager
def watching(say: Callable[[str], None]) -> Iterator[None]:
    """Say of each wait in the block that it lasts: the first time after a second, then after twenty."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(say, stop), name="waits", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _watch(say: Callable[[str], None], stop: threading.Event) -> None:
    known: set[str] = set()
    shown: dict[_Wait, float] = {}
    """When a line about each wait is due next."""
    while not stop.wait(min(_PAUSE, FIRST, PATIENCE)):
        now = time.monotonic()
        waits = list(_waits)
        shown = {wait: due for wait, due in shown.items() if wait in waits}
        for wait in waits:
            text = wait.text()
            if now >= shown.setdefault(wait, wait.began + (PATIENCE if text in known else FIRST)):
                shown[wait] = now + PATIENCE
                since = f"; {now - wait.began:.0f} s have passed" if text in known else ""
                known.add(text)
                say(f"{WAITING}{text}{since}")

"""SIGINT and SIGTERM: what they end at once, and what they let end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import _exit as leave  # the user's code runs with another one
from types import FrameType

from recipec.host.waits import waited_for


class Interrupted(KeyboardInterrupt):
    """A signal has ended what had nothing to keep; ``number`` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """Exit code of a process that the signal ends."""
        return 128 + self.number


@contextmanager
def ending_at_once(lost: str) -> Iterator[None]:
    """Let the first signal raise ``Interrupted`` in the block; a second one ends the process.

    ``lost`` says what the interruption costs.
    """

    def end(number: int, earlier: bool) -> None:
        _say(f"interrupted{_after(' while waiting for ')}; {lost}")
        if earlier:  # the user's code has caught the exception
            leave(128 + number)
        raise Interrupted(number)

    with _handling(end):
        yield


@contextmanager
def stop_flag() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a flag that the loop reads; a second one ends the process at once.

    Outside of the main thread, where Python handles no signals, nothing is changed.
    """
    seen: list[int] = []

    def note(number: int, earlier: bool) -> None:
        if earlier:
            _say(f"stopped at once{_after(' while waiting for ')}; the last checkpoint is kept")
            leave(128 + number)
        _say(f"stopping after this step{_after('; it waits for ')}; once more to stop at once")
        seen.append(number)

    with _handling(note):
        yield lambda: bool(seen)


@contextmanager
def _handling(act: Callable[[int, bool], None]) -> Iterator[None]:
    """Call ``act`` with the number of each signal, and whether one came before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []

    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        act(number, len(seen) > 1)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _after(words: str) -> str:
    """Return ``words`` with what is waited for, empty where nothing is."""
    what = waited_for()
    return f"{words}{what}" if what else ""


def _say(text: str) -> None:
    os.write(2, f"{text}\n".encode())  # print is not safe in a handler

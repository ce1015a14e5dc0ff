"""The child process of ``worker_pool``: sets its limits, loads one handler, answers lines of JSON until stdin ends.

It is run as a script.  Everything it may need is imported before the first answer; from then on an audit hook
refuses files opened for writing, sockets and new processes.  The hook is a second line of defence, not a sandbox.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

_FORBIDDEN = ("socket.", "subprocess.", "os.", "shutil.", "ctypes.", "ftplib.", "urllib.", "http.", "smtplib.")
_HARMLESS = {"os.listdir", "os.scandir", "os.walk", "os.fwalk", "ctypes.get_errno", "ctypes.set_errno"}


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        mode, flags = arguments[1], arguments[2]
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            raise PermissionError("no file may be written here")
    elif event.startswith(_FORBIDDEN) and event not in _HARMLESS:
        raise PermissionError(f"{event} is not allowed here")


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform != "darwin":  # macOS refuses this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _limit_cpu(seconds: float) -> None:
    # The parent enforces the deadline; this limit ends a child after its parent was killed.
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _end_with_parent() -> None:
    """End when the parent is gone, which may be while a request hangs without using the CPU."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _answer(function: Callable[..., Any], argument: Any) -> dict[str, Any]:
    try:
        return {"ok": function(argument)}
    except Exception as error:  # noqa: BLE001 - any exception is an answer
        last = traceback.extract_tb(error.__traceback__)[-1:]
        line = next((frame.lineno or 0 for frame in last), 0)
        return {"error": [type(error).__name__, str(error)[:2000], getattr(error, "lineno", None) or line]}


def _write(stream: BinaryIO, answer: dict[str, Any]) -> None:
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError) as error:
        text = json.dumps({"error": [type(error).__name__, str(error)[:2000], 0]})
    stream.write(text.encode() + b"\n")
    stream.flush()


def main() -> None:
    """Serve until the parent closes the pipe."""
    root, handler, memory = sys.argv[1:4]
    own = os.getpid()
    requests, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a handler prints must not be read as an answer
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # and it must not read requests
    sys.path.insert(0, root)
    _limit(int(memory))
    _end_with_parent()
    argument = json.loads(requests.readline() or b"null")
    module, _, name = handler.partition(":")
    functions: list[Callable[[Any], Any]] = []

    def load(argument: Any) -> None:
        functions.append(getattr(importlib.import_module(module), name)(argument))

    loaded = _answer(load, argument)
    if os.getpid() != own:  # the handler forked while it was loaded: only the original process answers
        os._exit(0)
    _write(out, loaded)
    if not functions:
        return
    sys.addaudithook(_watch)
    for line in requests:
        seconds, request = json.loads(line)
        _limit_cpu(seconds)
        _write(out, _answer(functions[0], request))


if __name__ == "__main__":
    main()

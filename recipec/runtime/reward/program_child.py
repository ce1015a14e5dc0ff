"""The process of one program: sets its limits, then runs the program and its test.

It is run as a script, without anything of recipec.  An audit hook refuses sockets, further processes, native libraries
and changes of files outside of the working directory.  Like every audit hook it is not a security boundary.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import types
from typing import Any

_FORBIDDEN = ("socket.", "subprocess.", "os.", "shutil.", "ctypes.", "ftplib.", "urllib.", "http.", "smtplib.", "pty.")
_HARMLESS = {"os.listdir", "os.scandir", "os.walk", "os.fwalk", "os.putenv", "os.unsetenv", "ctypes.get_errno"}
_HERE = os.path.realpath(".")


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writes or (isinstance(mode, str) and set(mode) & set("wax+"))) and not _inside(path):
            raise PermissionError("files may be written in the working directory only")
    elif event in {"os.mkdir", "os.remove"}:
        if not _inside(arguments[0]):
            raise PermissionError(f"{event} is allowed in the working directory only")
    elif event == "ctypes.dlopen" and arguments == (None,):
        return  # every import of ctypes opens the program itself, and numpy imports it
    elif event.startswith(_FORBIDDEN) and event not in _HARMLESS:
        raise PermissionError(f"{event} is not allowed here")


def _inside(path: Any) -> bool:
    """Whether a path is below the working directory; open streams are."""
    return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith(_HERE + os.sep)


def _limit(memory: int, output: int, seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = math.ceil(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (output, output))
    if sys.platform != "darwin":  # macOS refuses this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    signal.alarm(math.ceil(seconds) + 2)  # ends a program that waits after its parent was killed


def main() -> None:
    """Run the program, then its test, and print the token that says that both came to their end."""
    source, memory, output, seconds = sys.argv[1:5]
    with os.fdopen(int(source)) as stream:
        request = json.load(stream)
    _limit(int(memory), int(output), float(seconds))
    sys.argv = ["program.py"]
    sys.setrecursionlimit(10_000)
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    sys.addaudithook(_watch)
    for name in ("code", "test"):
        exec(compile(request[name], f"<{name}>", "exec"), module.__dict__)  # noqa: S102 - this process is for it
    sys.stdout.flush()
    os.write(1, request["token"].encode())


if __name__ == "__main__":
    main()

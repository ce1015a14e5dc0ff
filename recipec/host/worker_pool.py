"""Worker processes for code that may hang or crash, or that a model's text could misuse.

A pool starts children of :mod:`recipec.host.worker_child` on one handler, ``module:function``.
The handler is called once with the pool's argument and returns the function that answers requests.
Requests and answers are lines of JSON over pipes; a child that exceeds its deadline is killed and replaced.

Pools of other packages exchange pickles with their children.  A child here may be under the control of a model's text,
and unpickling its answer would run that text in the trainer.
"""

from __future__ import annotations

import json
import math
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recipec.host.platforms import refuse_windows
from recipec.host.waits import waiting

START_SECONDS = 180.0
MEMORY = 4 << 30
LARGEST = 64 << 20
"""Most bytes of an answer; a child that writes more counts as crashed."""
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """A request without an answer: the child hung (``late``), died (``crashed``), or raised (``raised``)."""

    reason: Literal["late", "crashed", "raised"]
    error: str = ""
    """Name of the type of the exception."""
    message: str = ""
    line: int = 0


class HandlerError(Exception):
    """The handler raised on its argument; has the type and the text of the exception."""

    def __init__(self, error: str, message: str) -> None:
        super().__init__(message)
        self.error = error
        self.message = message


@dataclass(slots=True, eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    deadline: float
    buffer: bytearray = field(default_factory=bytearray)
    ready: bool = False
    request: int | None = None

    def send(self, line: bytes) -> bool:
        """Write one line; return whether the child is still running."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line)
            self.process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def end(self) -> None:
        """Kill the child and the processes that it started, and wait for its end."""
        _kill([self.process])


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue
    processes.clear()


def _answer(line: bytes) -> dict[str, Any] | None:
    """Read one line of a child; None where it is not an answer."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    error = answer.get("error")
    return answer if "ok" in answer or (isinstance(error, list) and len(error) == 3) else None


class WorkerPool:
    """Up to ``size`` child processes on one handler, started with the first request; ``what`` names them to the user.

    Example: ``WorkerPool("recipec.host.templates:serve", {"text": "{{ x }}", "name": "t.j2"}).ask([{"x": 1}],
    seconds=1.0)``.
    """

    def __init__(self, handler: str, argument: Any, *, what: str = "", size: int = 1, memory: int = MEMORY) -> None:
        self.handler = handler
        self.what = what or handler
        self.argument = argument
        self.size = size
        self.memory = memory
        self._children: list[_Child] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._finalizer = weakref.finalize(self, _kill, self._processes)

    def close(self) -> None:
        """Kill every child; a further request starts new ones."""
        self._children.clear()
        _kill(self._processes)

    def interrupt(self) -> None:
        """Kill every child, so that another thread does not wait for it any longer."""
        for process in list(self._processes):
            if process.poll() is None:
                process.kill()

    def ask(self, requests: Sequence[Any], seconds: float, what: str = "") -> list[Any]:
        """Return the answer to each request in order, a :class:`WorkerFailure` where ``seconds`` passed without one.

        ``what`` names the call to whoever waits.

        Raises:
            HandlerError: the handler raised on the pool's argument.
        """
        answers: list[Any] = [WorkerFailure("crashed")] * len(requests)
        queue = deque((i, self._line(request, seconds)) for i, request in enumerate(requests))
        while len(self._children) < min(self.size, len(requests)):
            self._start()
        turns = math.ceil(len(requests) / self.size)
        start = 0.0 if all(child.ready for child in self._children) else START_SECONDS
        try:
            with waiting(what or self.what, start + turns * seconds):
                while queue or any(child.request is not None for child in self._children):
                    self._hand_out(queue, seconds)
                    self._collect(answers)
        except BaseException:
            self.close()
            raise
        return answers

    @staticmethod
    def _line(request: Any, seconds: float) -> bytes:
        return json.dumps([seconds, request], default=str).encode() + b"\n"

    def _start(self) -> None:
        refuse_windows("code that runs in a process with limits")
        script = Path(__file__).with_name("worker_child.py")
        process = subprocess.Popen(  # noqa: S603 - our own script; the command line has no text of the user
            [sys.executable, "-B", "-s", "-P", str(script), str(script.parents[2]), self.handler, str(self.memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        self._processes.append(process)
        child = _Child(process, time.monotonic() + START_SECONDS)
        child.send(json.dumps(self.argument, default=str).encode() + b"\n")
        self._children.append(child)

    def _hand_out(self, queue: deque[tuple[int, bytes]], seconds: float) -> None:
        for child in list(self._children):
            if queue and child.ready and child.request is None:
                index, line = queue.popleft()
                if child.send(line):
                    child.request, child.deadline = index, time.monotonic() + seconds
                else:
                    queue.appendleft((index, line))
                    self._replace(child)

    def _replace(self, child: _Child) -> None:
        child.end()
        self._processes.remove(child.process)
        self._children.remove(child)
        self._start()

    def _collect(self, answers: list[Any]) -> None:
        watched = [child for child in self._children if not child.ready or child.request is not None]
        with selectors.DefaultSelector() as selector:
            for child in watched:
                assert child.process.stdout is not None
                selector.register(child.process.stdout, selectors.EVENT_READ, child)
            patience = max(0.0, min(child.deadline for child in watched) - time.monotonic())
            for key, _ in selector.select(patience):
                self._read(key.data, answers)
        for child in watched:
            if child in self._children and time.monotonic() >= child.deadline:
                if not child.ready:
                    raise HandlerError("TimeoutError", f"its process did not start in {START_SECONDS:.0f} s")
                if child.request is not None:
                    answers[child.request] = WorkerFailure("late")
                    self._replace(child)

    def _read(self, child: _Child, answers: list[Any]) -> None:
        assert child.process.stdout is not None
        piece = os.read(child.process.stdout.fileno(), 1 << 16)
        child.buffer += piece
        if not piece or len(child.buffer) > LARGEST:
            self._crashed(child, answers, "its process ended while starting")
        elif child.buffer.endswith(b"\n"):
            answer = _answer(bytes(child.buffer))
            child.buffer.clear()
            if answer is None:  # code of the handler wrote to the pipe
                self._crashed(child, answers, "its process wrote something other than an answer")
            elif not child.ready:
                if "error" in answer:
                    raise HandlerError(*answer["error"][:2])
                child.ready = True
            elif child.request is not None:
                answers[child.request] = answer["ok"] if "ok" in answer else WorkerFailure("raised", *answer["error"])
                child.request = None

    def _crashed(self, child: _Child, answers: list[Any], problem: str) -> None:
        if not child.ready:
            raise HandlerError("ChildProcessError", problem)
        if child.request is not None:
            answers[child.request] = WorkerFailure("crashed")
        self._replace(child)

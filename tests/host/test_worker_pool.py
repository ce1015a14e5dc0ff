"""Killable processes: answers in order, hangs and crashes cost one answer each, nothing leaks out or stays behind."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipec.host.worker_pool import HandlerError, WorkerFailure, WorkerPool

HANDLERS = """
import os, sys, time
def serve(argument):
    if argument == "refuse":
        raise LookupError("near")
    if argument == "die":
        os._exit(3)
    if argument == "fork":
        os.fork()
    def answer(request):
        print("noise on stdout")
        if request == "hang":
            while True: pass
        if request == "sleep":
            time.sleep(60)
        if request == "crash":
            os._exit(9)
        if request == "raise":
            raise ValueError("no")
        if request == "memory":
            return len(bytearray(8 << 30))
        if request == "write":
            open(argument, "w")
        if request == "spawn":
            os.system("true")
        if request == "connect":
            import socket
            socket.create_connection(("127.0.0.1", 9))
        if request == "scribble":
            for fd in range(3, 12):
                try:
                    os.write(fd, b"[1]\\n")
                except OSError:
                    pass
        if request == "read":
            return sys.stdin.readline()
        if request == "pid":
            return os.getpid()
        if request == "environment":
            return sorted(os.environ)
        return request
    return answer
"""


@pytest.fixture
def pool_of(tmp_path, monkeypatch):
    """Pools on a handler of this test's own, found on the child's path."""
    package = tmp_path / "root" / "child_handlers.py"
    package.parent.mkdir()
    package.write_text(HANDLERS)
    script = tmp_path / "root" / "recipec" / "run" / "worker_child.py"
    script.parent.mkdir(parents=True)
    import recipec.host.worker_pool as module

    script.write_text((module.Path(module.__file__).with_name("worker_child.py")).read_text())
    monkeypatch.setattr(module, "__file__", str(script.with_name("worker_pool.py")))
    made = []

    def make(argument=None, **options):
        made.append(WorkerPool("child_handlers:serve", argument, **options))
        return made[-1]

    yield make
    for pool in made:
        pool.close()


def test_answers_keep_their_order(pool_of):
    """Whichever child answers first, answers come in the order of the requests; big ones come whole."""
    big = "x" * 300_000
    requests = [*range(50), big, {"a": [1, None]}]
    assert pool_of(size=2).ask(requests, 30) == requests


def test_hangs_and_crashes_cost_one_answer(pool_of):
    """A hang, a sleep, a crash, an exception and too much memory lose their own answer and no other."""
    requests = ["a", "hang", "b", "crash", "raise", "c", "sleep", "memory", "d"]
    found = pool_of(size=2).ask(requests, 0.5)
    reasons = [answer.reason if isinstance(answer, WorkerFailure) else answer for answer in found]
    assert reasons == ["a", "late", "b", "crashed", "raised", "c", "late", "raised", "d"]
    assert (found[4].error, found[4].message) == ("ValueError", "no")
    assert found[7].error == "MemoryError"


def test_a_child_that_writes_over_the_pipe_is_a_crashed_one(pool_of):
    """What a handler writes to our own pipe costs its answer, and nothing else."""
    pool = pool_of()
    assert pool.ask(["scribble", 1], 5.0) == [WorkerFailure("crashed"), 1]


def test_what_a_child_reads_is_no_request(pool_of):
    """Standard input is empty for a handler, so that nothing waits for a user and no request is taken away."""
    assert pool_of().ask(["read", 1], 5.0) == ["", 1]


def test_a_handler_that_forks_while_it_is_loaded_answers_once(pool_of):
    """Of the two processes one answers, each request in its turn."""
    pool = pool_of("fork")
    assert [pool.ask([i], 5.0) for i in range(4)] == [[0], [1], [2], [3]]


def test_children_cannot_reach_out(pool_of, tmp_path):
    """No file is written, no process started, no connection opened, and the environment stays here."""
    target = tmp_path / "written"
    os.environ["SOME_SETTING"] = "x"
    try:
        found = pool_of(str(target)).ask(["write", "spawn", "connect", "environment"], 10)
    finally:
        del os.environ["SOME_SETTING"]
    assert [answer.error for answer in found[:3]] == ["PermissionError"] * 3
    assert not target.exists()
    assert "SOME_SETTING" not in found[3]


def test_refused_argument(pool_of):
    """A handler that refuses its argument, or dies of it, is told apart from one that loses an answer."""
    with pytest.raises(HandlerError) as caught:
        pool_of("refuse").ask([1], 5)
    assert (caught.value.error, caught.value.message) == ("LookupError", "near")
    with pytest.raises(HandlerError):
        pool_of("die").ask([1], 5)


def test_nothing_stays_behind(pool_of):
    """Closing or forgetting a pool ends its children, and a closed pool works again."""
    pool = pool_of()
    (first,) = pool.ask(["pid"], 10)
    pool.close()
    (second,) = pool.ask(["pid"], 10)
    assert first != second
    pool._finalizer()
    for pid in (first, second):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_child_ends_with_its_parent(pool_of):
    """A child whose pipe is closed ends by itself."""
    pool = pool_of()
    pool.ask([1], 10)
    (process,) = pool._processes
    process.stdin.close()
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.returncode == 0


PARENT = """
import os, threading, time
from recipec.host.worker_pool import WorkerPool

pool = WorkerPool("tests.support.faulty_worker:serve", None)
pool.ask([{"ready": True}], 60)
asleep = {"task": {"slow": 600}, "seed": 0, "label": "", "actions": []}
threading.Thread(target=pool.ask, args=([asleep], 600), daemon=True).start()
time.sleep(0.2)
print(pool._processes[0].pid, flush=True)
os._exit(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_that_hangs_ends_with_its_parent():
    """A parent that is killed leaves no child, also none that waits for ever without using the CPU."""
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", PARENT], cwd=root, capture_output=True, text=True, check=False)
    state = Path("/proc") / ended.stdout.strip() / "stat"
    deadline = time.monotonic() + 30
    while state.exists() and ") Z" not in state.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert time.monotonic() < deadline


def test_requests_may_hold_odd_values(pool_of):
    """Values that JSON does not know arrive as text."""
    assert json.dumps(pool_of().ask([{"path": os.path}], 10))  # a module


def test_an_answer_without_end_is_no_answer(pool_of, monkeypatch):
    """A child that writes more than it may is ended; the next request is answered."""
    monkeypatch.setattr("recipec.host.worker_pool.LARGEST", 100_000)
    found = pool_of().ask(["x" * 300_000, "a"], 10)
    assert [getattr(answer, "reason", answer) for answer in found] == ["crashed", "a"]

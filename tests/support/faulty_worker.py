"""Worlds that count, and misbehave when they are told to; loaded in children by tests."""

import os
import sys
import time

from recipec.runtime.environment.worker_main import live


def _hang():
    while True:
        pass


def _raise():
    raise ValueError("no")


def _deep():
    return _deep()


ODD = {
    "loop": _hang,
    "exit": lambda: os._exit(3),
    "leave": lambda: sys.exit(0),
    "raise": _raise,
    "deep": _deep,
    "nan": lambda: {"observation": "x", "reward": float("nan")},
    "huge": lambda: "x" * 100_000_000,
    "type": lambda: 7,
    "key": lambda: {"observation": "x", "done": True},
    "flag": lambda: {"observation": "x", "terminated": 1},
    "state": lambda: {"observation": "x", "state": object()},
    "actions": lambda: {"observation": "x", "actions": "abc"},
    "end": lambda: {"observation": "over", "reward": 1.0, "terminated": True},
}


class Odd:
    """Counts up by one at every action but those of `ODD`."""

    def __init__(self, argument):
        self.argument = argument
        self.count = 0

    def reset(self, task, seed):  # noqa: ARG002 - it draws nothing
        """Begin where the task says."""
        time.sleep(task.get("slow", 0))
        self.count = task.get("from", 0)
        return {"observation": str(self.count), "goal": "count", "actions": ["add"]}

    def step(self, action):
        """Count, or do as told."""
        if action in ODD:
            return ODD[action]()
        if action == "random":
            self.count = time.monotonic_ns()
            return str(self.count)
        self.count += 1
        return {"observation": str(self.count), "reward": 0.5, "state": {"at": (self.count,)}, "actions": ["add"]}


def serve(argument):
    """Build worlds; refuse when told so."""
    if argument == "refuse":
        raise ValueError("no such world")

    def tasks(split, size, seed):
        if split == "train":
            return [{"from": seed + i} for i in range(size or 3)]
        return "none"

    return live(lambda: Odd(argument), tasks, keep=4)

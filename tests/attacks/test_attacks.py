"""The corpus of attacks: each ends in the code of its row, or is harmless, within bounds of time and memory.

Nothing of it runs: no canary is created, no process started, no file outside its folder written, no socket opened to
anything but the attack's own server, and nothing that moves a terminal's cursor is printed.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from attacks.attack import ENDED, Attack
from attacks.corpus import ATTACKS

SILENCE = 240.0
"""Seconds without a line of the child after which it counts as hung, on a busy machine."""
TESTS = Path(__file__).parent.parent


class Arena:
    """The process in which attacks act; another one is started where it died or hung."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.count = 0
        self.child: subprocess.Popen | None = None

    def act(self, name: str) -> dict:
        """Return what came of an attack."""
        child = self.child or self.start()
        print(name, file=child.stdin, flush=True)
        watch = threading.Timer(SILENCE, child.kill)
        watch.start()
        line = child.stdout.readline()
        watch.cancel()
        watch.join()
        if line:
            return json.loads(line)
        died = f"ended its process with {child.wait()}: {(self.folder / 'errors').read_text()[-1500:]}"
        self.close()
        return {"outcome": died, "broken": [], "seconds": 0.0, "memory": 0}

    def start(self) -> subprocess.Popen:
        """Start a process in a folder of its own."""
        self.count += 1
        self.folder = self.home / str(self.count)
        self.folder.mkdir()
        path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        with (self.folder / "errors").open("w") as noise:
            self.child = subprocess.Popen(
                [sys.executable, "-B", "-m", "attacks.attack_child", str(self.folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=noise,
                text=True,
                env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
            )
        return self.child

    def close(self) -> None:
        """End the process: it reads no more names."""
        if self.child is not None:
            self.child.communicate()
            self.child = None


@pytest.fixture(scope="session")
def arena(tmp_path_factory):
    """Return the process in which the attacks of this test process act, one after another."""
    made = Arena(tmp_path_factory.mktemp("attacks"))
    yield made
    made.close()


@pytest.mark.parametrize(
    "attack", [pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.slow else []) for one in ATTACKS]
)
def test_attack(attack: Attack, arena):
    """The outcome is that of the row, nothing happened that must not, and time and memory are bounded."""
    found = arena.act(attack.name)
    assert ENDED.fullmatch(found["outcome"]), found["outcome"]
    assert attack.expect in found["outcome"].split()
    assert found["broken"] == []
    assert found["seconds"] <= attack.seconds
    assert found["memory"] <= attack.memory


def test_the_corpus_is_whole():
    """Each attack has a name of its own and says what it descends from; there are at least 150."""
    assert len({one.name for one in ATTACKS}) == len(ATTACKS) >= 150
    assert all(one.after.startswith(("CVE-", "CWE-", "GHSA-")) for one in ATTACKS)

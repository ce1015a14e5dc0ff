"""The corpus of attacks: each ends in the code of its row, or is harmless, within bounds of time and memory.

Nothing of it runs: no canary is created, no process started, no file outside its folder written, no socket opened to
anything but the attack's own server, and nothing that moves a terminal's cursor is printed.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks.attack import ENDED, Attack
from attacks.corpus import ATTACKS

SILENCE = 240.0
"""Seconds without a line of the child after which it counts as hung, on a busy machine."""
TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def outcomes(request, tmp_path_factory):
    """What came of the attacks that are tested, by name: all act in one process, or in another where it died."""
    items = (item for item in request.session.items if item.path == Path(__file__))
    waiting = [item.callspec.params["attack"].name for item in items if hasattr(item, "callspec")]
    home = tmp_path_factory.mktemp("attacks")
    found = {}
    while waiting := [name for name in waiting if name not in found]:
        found |= _acted(home / str(len(found)), waiting)
    return found


def _acted(home: Path, names: list[str]) -> dict[str, dict]:
    """Let attacks act in a child; where it dies or hangs, the one that was acting is reported so."""
    home.mkdir()
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    found: dict[str, dict] = {}
    acting = names[0]
    with (
        (home / "errors").open("w+") as noise,
        subprocess.Popen(
            [sys.executable, "-B", "-m", "attacks.attack_child", str(home), *names],
            stdout=subprocess.PIPE,
            stderr=noise,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "NO_COLOR": "1"},
        ) as child,
    ):
        for line in map(json.loads, _lines(child)):
            if "begins" in line:
                acting = line["begins"]
            else:
                found[line["name"]] = line
        if child.wait():
            noise.seek(0)
            died = f"ended its process with {child.returncode}: {noise.read()[-1500:]}"
            found.setdefault(acting, {"outcome": died, "broken": [], "seconds": 0.0, "memory": 0})
    return found


def _lines(child: subprocess.Popen) -> Iterator[str]:
    """Yield what a child prints; it is killed where it says nothing for too long."""
    while True:
        watch = threading.Timer(SILENCE, child.kill)
        watch.start()
        line = child.stdout.readline()
        watch.cancel()
        watch.join()
        if not line:
            return
        yield line


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "attack", [pytest.param(one, id=one.name, marks=[pytest.mark.slow] if one.slow else []) for one in ATTACKS]
)
def test_attack(attack: Attack, outcomes):
    """The outcome is that of the row, nothing happened that must not, and time and memory are bounded."""
    found = outcomes[attack.name]
    assert ENDED.fullmatch(found["outcome"]), found["outcome"]
    assert attack.expect in found["outcome"].split()
    assert found["broken"] == []
    assert found["seconds"] <= attack.seconds
    assert found["memory"] <= attack.memory


def test_the_corpus_is_whole():
    """Each attack has a name of its own and says what it descends from; there are at least 150."""
    assert len({one.name for one in ATTACKS}) == len(ATTACKS) >= 150
    assert all(one.after.startswith(("CVE-", "CWE-", "GHSA-")) for one in ATTACKS)

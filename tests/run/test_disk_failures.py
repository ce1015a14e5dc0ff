"""A share of what `benchmarks/kill.py` and `benchmarks/corruption.py` try."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"),
]


def output(folder: Path, script: str, *options: str) -> str:
    """Run a benchmark that is to end well, and return what it prints."""
    variables = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(BENCHMARKS / script), *options]
    ended = subprocess.run(command, env=variables, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_calls_to_the_disk(tmp_path):
    """Each 100th call ends a run or fails; of every kind of case some are tried."""
    printed = output(tmp_path, "kill.py", "--share", "100")
    counts = dict(re.findall(r"^\| ([a-z -]+) \| (\d+) \|", printed, re.MULTILINE))
    assert len(counts) == 7
    assert all(map(int, counts.values()))


def test_damaged_files(tmp_path):
    """Each 60th file of a run is damaged."""
    printed = output(tmp_path, "corruption.py", "--share", "60")
    assert int(re.findall(r"^(\d+) cases, 0 faults", printed, re.MULTILINE)[0]) > 20

"""Measure the time of `recipec validate`: one recipe in a process of its own, and 1,000 recipes in one call.

    python benchmarks/validate.py [--runs 12]

For comparison: an empty Python process, and PyYAML reading the same file without checking it.
Times are CPU seconds of the whole process (user and system), minimum and median over the runs.
The bytecode of the package is compiled first, as `pip install` and `make` do.
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = Path(__file__).parent.parent / "recipes" / "tiny" / "quickstart.yaml"


def cpu_seconds(command: list[str]) -> float:
    """Run a command and return the CPU seconds it took."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return usage.ru_utime + usage.ru_stime


def thousand(runs: int) -> float:
    """Return the wall seconds for 1,000 different recipes in one call, minimum of ``runs``."""
    with tempfile.TemporaryDirectory() as folder:
        text = RECIPE.read_text(encoding="utf-8").replace("../../schemas", "schemas")
        (Path(folder) / "prompts").mkdir()
        for i in range(1000):
            named = text.replace("name: quickstart", f"name: recipe-{i}").replace("seed: 0", f"seed: {i}", 1)
            (Path(folder) / f"{i:04d}.yaml").write_text(named, encoding="utf-8")
        best = float("inf")
        for _ in range(runs):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-m", "recipec", "validate", folder], check=True, stderr=subprocess.DEVNULL)
            best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=12)
    runs = parser.parse_args().runs
    read = f"import yaml; yaml.load(open({str(RECIPE)!r}), yaml.CSafeLoader)"
    commands = {
        "an empty Python process": [sys.executable, "-c", "pass"],
        "PyYAML reads the recipe, checks nothing": [sys.executable, "-c", read],
        "recipec validate quickstart.yaml": [sys.executable, "-m", "recipec", "validate", str(RECIPE)],
    }
    compileall.compile_dir(str(RECIPE.parent.parent.parent / "recipec"), quiet=1)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command))
    print("| whole process | CPU s, minimum | median |\n|---|---|---|")
    for name, found in seconds.items():
        print(f"| {name} | {min(found):.3f} | {statistics.median(found):.3f} |")
    print(f"\n1,000 recipes in one call: {thousand(3):.2f} s wall, best of 3")


if __name__ == "__main__":
    main()

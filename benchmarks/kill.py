"""Kill a run at random moments, continue it each time, and compare the result with that of an uninterrupted run.

    pip install 'recipec[train,envs]'
    python benchmarks/kill.py                       # 20 kills of the quickstart: about ten minutes on two cores
    python benchmarks/kill.py RECIPE --kills 5 --set stages.explore.budget.steps=20

If a run ends before all kills are done, another run is started, until --kills is reached.
The moments are drawn from --seed; what a run is doing at that moment depends on the speed of the machine.
Prints two Markdown tables.  Exits with 1 if a byte of the policies, rollouts, pairs or samples differs, or a metric
that is not a time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recipec.host.journal import CLOCK
from recipec.host.jsonl import read_lines

QUICKSTART = Path(__file__).parents[1] / "recipes" / "tiny" / "quickstart.yaml"
LEFT_OUT = {"checkpoints"}  # they contain positions in metrics.jsonl, which has times of varying length


def start(recipe: Path, out: Path, overrides: list[str]) -> subprocess.Popen[bytes]:
    """Start or continue a run in a process group of its own."""
    command = [sys.executable, "-m", "recipec", "run", str(recipe), "--out", str(out), "--quiet"]
    for override in overrides:
        command += ["--set", override]
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(command, start_new_session=True, env=environment, stdout=subprocess.DEVNULL)


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill the whole group after a time; return whether it was still running."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    if process.returncode:
        sys.exit(f"the run ended with exit code {process.returncode}")
    return False


def place(out: Path) -> tuple[str, int, int, int]:
    """Return where a run was killed: stage, last step written, last checkpoint, number of partly written folders."""
    stages = sorted((out / "stages").glob("*/digest"), key=lambda path: path.stat().st_mtime)
    if not stages:
        return "before the first stage", 0, 0, 0
    home = stages[-1].parent
    written = [row["step"] for row in read_lines(home / "metrics.jsonl")]
    steps = [int(path.name[5:]) for path in home.glob("checkpoints/step-??????")]
    torn = sum(1 for _ in out.rglob(".tmp-*")) + sum(1 for _ in out.rglob(".del-*"))
    return home.name, max(written, default=0), max(steps, default=0), torn


def content(out: Path) -> dict[str, str]:
    """Hash every file of the stages; metrics without times."""
    found = {}
    for path in sorted(p for p in (out / "stages").rglob("*") if p.is_file() and not LEFT_OUT & set(p.parts)):
        data = path.read_bytes()
        if path.name == "metrics.jsonl":
            rows = [json.loads(line) for line in data.splitlines()]
            kept = [{k: v for k, v in row.items() if not k.startswith(CLOCK)} for row in rows]
            data = json.dumps(kept).encode()
        found[path.relative_to(out / "stages").as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def compare(whole: dict[str, str], killed: dict[str, str]) -> int:
    """Print how many files differ, by stage and kind of file; return their number."""
    print("\n| stage | what | files | differ |\n|---|---|---:|---:|")
    groups: dict[tuple[str, str], list[bool]] = {}
    for name in sorted(whole.keys() | killed.keys()):
        stage, what, *_ = name.split("/")
        groups.setdefault((stage, what), []).append(whole.get(name) != killed.get(name))
    for (stage, what), different in groups.items():
        print(f"| {stage} | {what} | {len(different)} | {sum(different)} |")
    return sum(sum(different) for different in groups.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, nargs="?", default=QUICKSTART)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, help="folder of the runs; default: a temporary one")
    options = parser.parse_args()
    draws = random.Random(options.seed)  # noqa: S311 - moments, not secrets
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        began = time.monotonic()
        start_whole = start(options.recipe, work / "whole", options.overrides)
        if start_whole.wait():
            sys.exit(f"the uninterrupted run ended with exit code {start_whole.returncode}")
        seconds = time.monotonic() - began
        expected = content(work / "whole")
        print(f"uninterrupted: {seconds:.0f} s, {len(expected)} files\n", flush=True)
        print(
            "| kill | run | after, s | stage | step | checkpoint | partly written |\n"
            "|---:|---:|---:|---|---:|---:|---:|"
        )
        kills, run = 0, 1
        while kills < options.kills:
            out = work / f"killed-{run}"
            delay = draws.uniform(0, seconds / 2)
            if kill_after(start(options.recipe, out, options.overrides), delay):
                kills += 1
                stage, step, checkpoint, torn = place(out)
                print(f"| {kills} | {run} | {delay:.1f} | {stage} | {step} | {checkpoint} | {torn} |", flush=True)
            else:
                run += 1
        differ = 0
        for out in sorted(work.glob("killed-*")):
            kill_after(start(options.recipe, out, options.overrides), 10 * seconds)
            differ += compare(expected, content(out))
    print(f"\n{kills} kills, {run} run{'s' if run > 1 else ''}, {differ} files differ")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

"""Damage every file of a run in every way, continue the run, and look at how it ends.

    pip install 'recipec[train,envs]'
    python benchmarks/corruption.py                    # about 1,900 cases
    python benchmarks/corruption.py --only manifest --kind flipped --show

The run of `forked_runs.py` is made once whole and once stopped after a checkpoint of its second stage.  For each file
of both and each kind of damage, a copy is damaged and `recipec run` is called on it again.  A case ends well in one of
two ways:

- ``same``: exit code 0, and every policy, rollout, pair, sample and metric (but times) is that of the undamaged run;
  what was damaged may be kept next to it under another name, and metrics or samples that are lost are reported with
  their file;
- ``refused``: exit code 1 or 4 with a diagnostic that names the file or its folder, and the damaged file as it was.

Everything else is a fault: an unexpected exit code, a traceback, another number, a refusal that names no file.
Prints a Markdown table of the counts and a line for each fault; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from forked_runs import STOPPED, Fault, Runs, furnish, preloaded, result

from recipec.host.checksums import SUMS

OUT = "run"
STOP = "stages/explore/checkpoints/step-000002"
"""The checkpoint after which the second state is stopped."""


class Case(NamedTuple):
    """One file of one state of the run, and one kind of damage."""

    state: int
    """Index among the states."""
    file: Path
    kind: str


class Outcome(NamedTuple):
    """How a damaged run ended."""

    verdict: str
    why: str = ""


def deleted(path: Path, other: Path) -> None:
    """Remove the file."""
    del other
    path.unlink()


def empty(path: Path, other: Path) -> None:
    """Cut the file to nothing."""
    del other
    path.write_bytes(b"")


def truncated(path: Path, other: Path) -> None:
    """Leave the first half."""
    del other
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def flipped(path: Path, other: Path) -> None:
    """Flip one bit of the middle byte."""
    del other
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 4
    path.write_bytes(data)


def another_type(path: Path, other: Path) -> None:
    """Replace the content by JSON of another type."""
    del other
    path.write_text('[["not", "this"], 1e999]')


def folder(path: Path, other: Path) -> None:
    """Put a folder in the place of the file."""
    del other
    path.unlink()
    path.mkdir()


def link(path: Path, other: Path) -> None:
    """Put a link to a file outside of the run."""
    del other
    outside = Path(tempfile.mkdtemp()) / "outside"
    shutil.copy(path, outside)
    path.unlink()
    path.symlink_to(outside)


def swapped(path: Path, other: Path) -> None:
    """Put the same file of a run with another seed."""
    if other.exists():
        shutil.copy(other, path)


KINDS: dict[str, Callable[[Path, Path], None]] = {
    f.__name__: f for f in (deleted, empty, truncated, flipped, another_type, folder, link, swapped)
}


class States(NamedTuple):
    """Folders of a whole run, of one that was stopped, and of a whole one with another seed."""

    finished: Path
    stopped: Path
    other: Path


def prepare(runs: Runs) -> States:
    """Make the runs."""
    states = States(*(runs.folder.parent / name for name in States._fields))
    for state, settings in ((states.finished, ()), (states.other, ("seed=1",))):
        ended = Runs(runs.folder, runs.disk, settings=settings).run(OUT)
        if ended.code:
            sys.exit(f"the {state.name} run ended with exit code {ended.code}\n{ended.text}")
        (runs.folder / OUT).rename(state)
    run = runs.begun(OUT, Fault(way=STOPPED))
    while next(run, False) and not (runs.folder / OUT / STOP).exists():
        pass
    run.kill()
    (runs.folder / OUT).rename(states.stopped)
    return states


def results(run: Path) -> dict[str, object]:
    """Return what a run is for; what no result depends on is left out, such as descriptions."""
    kept = {"policy", "rollouts", "pairs", "samples", "metrics.jsonl"}
    found = {name.removeprefix("stages/"): what for name, what in result(run).items() if name.startswith("stages/")}
    return {name: what for name, what in found.items() if name.split("/")[1] in kept and not left_out(name)}


def left_out(name: str) -> bool:
    """Whether a file is kept aside, or only serves to verify others."""
    return "@" in name or Path(name).name == SUMS


def tried(case: Case, runs: Runs, states: States, expected: dict[str, object]) -> Outcome:
    """Damage a copy, continue it, and judge the end."""
    home = runs.folder / OUT
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(states[case.state], home)
    damaged = home / case.file
    KINDS[case.kind](damaged, states.other / case.file)
    began = time.monotonic()
    ended = runs.run(OUT)
    if time.monotonic() - began > 120:
        return Outcome("fault", "took more than two minutes")
    if "Traceback" in ended.text or ended.code not in {0, 1, 4}:
        return Outcome("fault", f"exit code {ended.code}: {ended.text[-300:]}")
    if ended.code:
        places = (case.file.name, *(str(folder) for folder in case.file.parents if folder.name), str(home))
        named = [place for place in places if place in ended.text]
        return Outcome("refused", ended.text) if named else Outcome("fault", f"names no file: {ended.text[-300:]}")
    lost = set[str]()
    if "warning[" in ended.text and str(case.file) in ended.text:  # its loss is reported; a policy has its metrics
        lost = {case.file.relative_to("stages").as_posix(), f"{case.file.parts[1]}/policy/MANIFEST.json"}
        shutil.rmtree(damaged) if damaged.is_dir() else damaged.unlink(missing_ok=True)
    found = results(home)
    differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    differ = [name for name in differ if name not in lost]
    return Outcome("fault", f"differ: {', '.join(differ)[:300]}") if differ else Outcome("same")


def cases(states: States, only: str, kinds: list[str]) -> Iterator[Case]:
    """Every file of both states and every kind of damage."""
    for state in (States._fields.index("stopped"), States._fields.index("finished")):
        home = states[state]
        for path in sorted(p for p in home.rglob("*") if p.is_file()):
            name = path.relative_to(home)
            yield from (Case(state, name, kind) for kind in kinds if only in str(name).lower())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files with this text in their path")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="a kind of damage; default: all")
    parser.add_argument("--share", type=int, default=1, help="try each n-th case only")
    parser.add_argument("--minutes", type=float, default=1e9, help="try no more cases after this time")
    parser.add_argument("--show", action="store_true", help="print the diagnostics of every refusal")
    options = parser.parse_args()
    disk = preloaded()
    torch.set_num_threads(1)
    counts: Counter[tuple[str, str]] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        furnish(work / "home")
        runs = Runs(work / "home", disk)
        assert runs.parts  # what they imported need not be imported again
        states = prepare(runs)
        expected = results(states.finished)
        began = time.monotonic()
        for case in list(cases(states, options.only, options.kind or list(KINDS)))[:: options.share]:
            outcome = tried(case, runs, states, expected)
            counts[case.kind, outcome.verdict] += 1
            if outcome.verdict == "fault":
                faults.append(f"{States._fields[case.state]} {case.file} {case.kind}: {outcome.why}")
                print(faults[-1], flush=True)
            elif options.show:
                print(case, outcome.verdict, outcome.why, flush=True)
            if counts.total() % 50 == 0:
                print(f"{counts.total()} cases, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            if time.monotonic() - began > 60 * options.minutes:
                break
    print("\n| damage | same result | refused | faults |\n|---|---:|---:|---:|")
    for kind in KINDS:
        print(f"| {kind} | {counts[kind, 'same']} | {counts[kind, 'refused']} | {counts[kind, 'fault']} |")
    print(f"\n{counts.total()} cases, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

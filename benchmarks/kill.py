"""Let every call of a run to the disk end it or fail, continue the run, and compare what a person sees of it.

    pip install 'recipec[train,envs]'
    python benchmarks/kill.py                              # about 4,000 cases; needs Linux and a C compiler
    python benchmarks/kill.py --only "two ranks" --share 20

A run of three stages with an adapter, images, searched trees, pairs from a knowledge graph and evaluations is made
once; its calls that create, write, sync, rename or remove are counted.  Each case is one call, and one of these:

- ``killed``: the run stands still before the call, which is after the one before, and its files are copied: they are
  those that SIGKILL leaves.  Where the call before changed none, as a sync, the copy is not continued again;
- ``killed twice``: so is a continuation of a run that was killed in one of its stages;
- ``two ranks``: so is the leader of a run of two processes;
- ``launcher``: the process that starts two ranks gets SIGKILL while the leader of them is at the call;
- ``follower``: so does the rank that does not lead, and none is started again (``max_restarts`` 0);
- ``restarted``: so does one rank, in turns, and the launcher starts them again: the command ends well;
- ``torn``: the run is ended by SIGKILL after half of the bytes that the call writes;
- ``disk full``: from this call on nothing can be created, written or renamed (ENOSPC, the first write is half done);
- ``broken``: this call fails with EIO;
- ``read-only``: from this call on nothing can be changed (EROFS).

The copy, or what is left, is continued under another clock: that of now, in 40 days or 400 days ago.  A case ends well
if a failure was reported by a diagnostic with exit code 1 or 4, and the continued run has every file, metric, event and
report of an undisturbed run, less what is a time, and no file more.  They are compared where the stage of the
call has ended, from where all runs go on alike, and in each tenth case at the end of the run.
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
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from forked_runs import (
    BROKEN,
    FULL,
    KILLED,
    READ_ONLY,
    STAGES,
    STOPPED,
    TORN,
    Ended,
    Fault,
    Part,
    Runs,
    following,
    furnish,
    preloaded,
    result,
)
from launched_runs import LAUNCHER, LaunchedRuns, adopt_orphans, orphans

CLOCKS = (0, 40 * 86400, -400 * 86400)
WAYS = {"torn": TORN, "disk full": FULL, "broken": BROKEN, "read-only": READ_ONLY}
AFFECTED = {
    TORN: {"write"},
    FULL: {"create", "write", "rename"},
    BROKEN: {"create", "write", "sync", "rename", "remove", "cut"},
    READ_ONLY: {"create", "write", "rename", "remove", "cut"},
}
EVERY = 10
"""Of the calls on event files, which a thread makes, each n-th is tried."""
AGAIN = 2
"""Runs that are killed in each stage and continued, to be killed at each call of the continuation."""
WHOLE = 10
"""Each n-th case is continued to the end of the run."""
TWO = ("machine.devices=2",)
ALONE = {"launcher": (), "follower": ("machine.max_restarts=0",), "restarted": ()}
"""Settings of the runs in which one process of three is killed."""
ENDS = 10.0
"""Seconds after which no process of a run may be left."""
OUT = "case"


@dataclass(frozen=True)
class Left:
    """A disturbed run; its files are in ``OUT``."""

    kind: str
    about: str
    runs: Runs
    part: Part
    how: str = "killed"
    wrong: str = ""
    same: bool = False
    """Whether these are the files of the case before, as after a sync: they are not continued again."""


def killed(kind: str, runs: Runs, share: int, part: Part, begin: Path | None) -> Iterator[Left]:
    """Yield a stage of a run at each of its calls, or at each n-th; it continues ``begin``, if that is given."""
    home, number, before, until = runs.folder / "going", 0, None, following(part.number)
    put(begin, home)
    first = part.first if begin == part.begin else 1
    run = runs.begun("going", Fault(way=STOPPED))
    while next(run, False) and not (until and (home / until).exists()):
        number += 1
        if number < first or number % share or not home.exists():
            continue
        now = shape(home)
        if now != before:
            shutil.copytree(home, runs.folder / OUT)
        yield Left(kind, f"{STAGES[part.number]}, before call {number}", runs, part, same=now == before)
        before = now
    run.kill()


def put(begin: Path | None, home: Path) -> None:
    """Make ``home`` a copy of the folder of a run, or nothing."""
    shutil.rmtree(home, ignore_errors=True)
    if begin is not None:
        shutil.copytree(begin, home)


def shape(folder: Path) -> list[tuple[Path, int, int, int]]:
    """Return what changes with every change of a folder's files."""
    found = ((path, path.lstat()) for path in sorted(folder.rglob("*")))
    return [(path, one.st_ino, one.st_size, one.st_mtime_ns * path.is_file()) for path, one in found]


def failed(name: str, runs: Runs, share: int, part: Part) -> Iterator[Left]:
    """Yield a run after a failure of each call of a stage, or of each n-th."""
    words = AFFECTED[WAYS[name]]
    chosen = [one for one in part.calls if one.word in words and not one.events and one.number >= part.first]
    chosen += [one for one in part.calls if one.word in words and one.events and one.number % EVERY == 0]
    for call in chosen[share - 1 :: share]:
        put(part.begin, runs.folder / OUT)
        fault = Fault(call.number, WAYS[name], call.events)
        how, wrong = judged(fault, runs.run(OUT, fault))
        yield Left(name, f"{STAGES[part.number]}, {call}", runs, part, how, wrong)


def one_killed(name: str, runs: Runs, share: int, part: Part) -> Iterator[Left]:
    """Yield a run of two ranks after one of its processes was killed at each call of the leader, or at each n-th."""
    launched = LaunchedRuns(runs.folder, runs.disk, runs.ranks, (*TWO, *ALONE[name]))
    chosen = [one for one in part.calls if not one.events and one.number >= part.first]
    for place, call in enumerate(chosen[share - 1 :: share]):
        put(part.begin, runs.folder / OUT)
        whom = {"launcher": LAUNCHER, "follower": 1, "restarted": place % 2}[name]
        fault = Fault(call.number, KILLED, whom=whom)
        how, wrong = judged(fault, launched.run(OUT, fault))
        if left := orphans(ENDS):
            wrong = f"{wrong}; {len(left)} processes are left after {ENDS:g} s: {left}"
        yield Left(name, f"{STAGES[part.number]}, {call}, rank {whom}", runs, part, how, wrong)


def judged(fault: Fault, ended: Ended) -> tuple[str, str]:
    """Say how a disturbed run ended, and what is wrong with that."""
    if ended.code == -9 and (fault.way == TORN or fault.whom == LAUNCHER):
        return "killed", ""
    if "Traceback" in ended.text or "internal error" in ended.text or ended.code not in {0, 1, 4}:
        return "refused", f"exit code {ended.code}: {ended.text[-800:]}"
    if ended.code == 0:
        return "complete", ""
    told = "error[RC" in ended.text or "cannot write" in ended.text
    return "refused", "" if told else f"exit code {ended.code} without a diagnostic: {ended.text[-300:]}"


def continued(left: Left, shift: int, *, whole: bool) -> str:
    """Continue what is left to the end of its stage, or of the run; return what is wrong with how it ends."""
    parts, out = left.runs.parts, left.runs.folder / OUT
    if left.how == "complete" and (differ := different(parts[-1].left, result(out))):
        return f"exit code 0, and nothing was printed of {differ}"
    until = "" if whole else following(left.part.number)
    run = left.runs.begun(OUT, Fault(way=STOPPED, until=until, shift=shift) if until else Fault(shift=shift))
    stands = next(run, False)
    found = result(out, ended=not stands)
    run.kill()
    if "Traceback" in run.ended.text or (not stands and run.ended.code):
        return f"continued: exit code {run.ended.code}: {run.ended.text[-800:]}"
    differ = different(left.part.left if stands else parts[-1].left, found)
    return f"continued: {differ}" if differ else ""


def different(expected: dict[str, object], found: dict[str, object]) -> str:
    """Name what differs; empty if nothing does."""
    names = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    marks = ("other" if name in found and name in expected else "no" if name in expected else "more:" for name in names)
    return ", ".join(f"{mark} {name}" for mark, name in zip(marks, names, strict=True))[:600]


def cases(one: Runs, two: Runs, only: str, share: int) -> Iterator[Left]:
    """Yield every case of the kinds with ``only`` in their name."""
    for part in one.parts if only in "killed" else ():
        yield from killed("killed", one, share, part, part.begin)
    for part in two.parts if only in "two ranks" else ():
        yield from killed("two ranks", two, share, part, part.begin)
    for part in one.parts if only in "killed twice" else ():
        for place in range(AGAIN):
            begun, calls = one.folder / "begun", [call.number for call in part.calls if not call.events]
            put(part.begin, begun)
            one.run("begun", Fault(calls[(2 * place + 1) * len(calls) // (2 * AGAIN)], KILLED))
            yield from killed("killed twice", one, share, part, begun)
            shutil.rmtree(begun)
    for name in ALONE:
        for part in two.parts if only in name else ():
            yield from one_killed(name, two, share, part)
    for name in WAYS:
        for part in one.parts if only in name else ():
            yield from failed(name, one, share, part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="kinds of cases with this text in their name")
    parser.add_argument("--share", type=int, default=1, help="try each n-th case only")
    parser.add_argument("--minutes", type=float, default=1e9, help="try no more cases after this time")
    parser.add_argument("--keep", type=Path, help="folder for the runs of cases that end badly")
    options = parser.parse_args()
    disk = preloaded()
    torch.set_num_threads(1)
    adopt_orphans()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        furnish(work / "home")
        one, two = Runs(work / "home", disk), Runs(work / "home", disk, 2, TWO)
        with closing(cases(one, two, options.only, options.share)) as chosen:
            table(chosen, options.keep, 60 * options.minutes)


def table(chosen: Iterator[Left], keep: Path | None, seconds: float) -> None:
    """Try the cases and print the counts; end with exit code 1 if a case ended badly."""
    counts, began, number = Counter[tuple[str, str]](), time.monotonic(), 0
    for number, left in enumerate(chosen, 1):
        counts.update([(left.kind, "cases"), (left.kind, left.how)])
        if left.same:
            continue
        counts[left.kind, "continued"] += 1
        done = sum(count for (_, column), count in counts.items() if column == "continued")
        wrong = left.wrong or continued(left, CLOCKS[done % len(CLOCKS)], whole=done % WHOLE == 0)
        if wrong:
            counts[left.kind, "wrong"] += 1
            print(f"{left.kind}, {left.about}: {wrong}", flush=True)
            if keep is not None:
                shutil.copytree(left.runs.folder / OUT, keep / f"{number}", symlinks=True)
        shutil.rmtree(left.runs.folder / OUT, ignore_errors=True)
        if number % 50 == 0:
            print(f"{number} cases, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if time.monotonic() - began > seconds:
            break
    columns = ("cases", "killed", "refused", "complete", "continued", "wrong")
    print("\n| kind | cases | killed | refused | complete all the same | continued | end badly |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in dict.fromkeys(kind for kind, _ in counts):
        print(f"| {kind} | " + " | ".join(str(counts[kind, column]) for column in columns) + " |")
    wrong = sum(count for (_, column), count in counts.items() if column == "wrong")
    used = os.times()
    cpu = used.children_user + used.children_system + used.user + used.system
    print(f"\n{number} cases, {wrong} end badly, {cpu:.0f} s of CPU, {time.monotonic() - began:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()

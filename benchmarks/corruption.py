"""Damage every file of a run in every way, continue the run, and look at how it ends.

    pip install 'recipec[train]'
    python benchmarks/corruption.py                    # about 500 cases
    python benchmarks/corruption.py --only manifest --kind flipped --show

A run of three stages (sft, rl, dpo) with a model of four thousand parameters is made once whole and once stopped after
a checkpoint of its second stage.  For each file of both and each kind of damage, a copy is damaged and `recipec run` is
called on it again.  A case ends well in one of two ways:

- ``same``: exit code 0, and every policy, rollout, sample and metric (but times) is that of the undamaged run; what was
  damaged may be kept next to it under another name, and metrics or samples that are lost are reported with their file;
- ``refused``: exit code 1 or 4 with a diagnostic that names the file or its folder, and the damaged file as it was.

Everything else is a fault: an unexpected exit code, a traceback, another number, a refusal that names no file.
Prints a Markdown table of the counts and a line for each fault; exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from kill import content

from recipec import cli

RECIPE = """\
recipec: 1
name: damaged
use: [./rewards.py]
stages:
  imitate:
    kind: sft
    from: scratch
    policy: &tiny
      type: causal_lm
      scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 64}
    data: {path: rows.jsonl}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 2, rows_per_step: 2}
  explore:
    kind: rl
    from: imitate
    data: {path: rows.jsonl}
    sampler: {num_generations: 4, max_completion_length: 4}
    reward:
      odd: {type: function, name: score}
    advantage:
      group: {type: group_relative}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 4, prompts_per_step: 2, save_every: 1}
  prefer:
    kind: dpo
    from: explore
    preference: {type: best_vs_worst, rollouts: explore.rollouts}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 2, pairs_per_step: 2}
"""
REWARDS = """\
import os
import signal

def score(completions, **columns):
    if os.environ.get("STOP_AT") and os.path.exists("runs/damaged/stages/explore/checkpoints/step-000002"):
        os.kill(os.getppid() if os.environ["STOP_AT"] == "child" else os.getpid(), signal.SIGTERM)
    return [float(sum(map(ord, text)) % 7) for text in completions]
"""
ROWS = "".join(json.dumps({"prompt": f"p{i}", "completion": f"c{i}"}) + "\n" for i in range(6))
RUN = Path("runs/damaged")
RUNS = ("run", "r.yaml", "--use", "rewards.py", "--quiet")


class Case(NamedTuple):
    """One file of one state of the run, and one kind of damage."""

    state: str
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
    outside = Path("outside").absolute()
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


def recipec(*arguments: str, stop: str = "") -> tuple[int, str]:
    """Call the command in a forked child: the state of the process is new, the imports are paid once."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            if stop:
                os.environ["STOP_AT"] = stop
            os._exit(_called(arguments))
        _, status = os.waitpid(child, 0)
        output.seek(0)
        return os.waitstatus_to_exitcode(status), output.read()


def _called(arguments: tuple[str, ...]) -> int:
    sys.argv = ["recipec", *arguments]
    sys.stdin = io.StringIO()
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - a traceback is what is looked for
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def prepare(work: Path) -> dict[str, Path]:
    """Make the folders of a whole run, a stopped one, and both with another seed."""
    states = {}
    for state, seed, stop in (("finished", 0, ""), ("stopped", 0, "self"), ("other", 1, "")):
        states[state] = work / state
        states[state].mkdir()
        os.chdir(states[state])
        for name, text in (("r.yaml", RECIPE), ("rewards.py", REWARDS), ("rows.jsonl", ROWS), ("pyproject.toml", "")):
            Path(name).write_text(text, encoding="utf-8")
        code, text = recipec(*RUNS, "--set", f"seed={seed}", stop=stop)
        if code != (75 if stop else 0):
            sys.exit(f"the {state} run ended with exit code {code}\n{text}")
    return states


def results(run: Path) -> dict[str, str]:
    """Hash what a run is for; descriptions that no result depends on are left out."""
    kept = {"policy", "rollouts", "pairs", "samples", "metrics.jsonl"}
    return {name: digest for name, digest in content(run).items() if name.split("/")[1] in kept and "@" not in name}


def tried(case: Case, states: dict[str, Path], expected: dict[str, str]) -> Outcome:
    """Damage a copy, continue it, and judge the end."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary, "copy")
        shutil.copytree(states[case.state], copy)
        os.chdir(copy)
        damaged = RUN / case.file
        KINDS[case.kind](damaged, states["other"] / RUN / case.file)
        began = time.monotonic()
        code, text = recipec(*RUNS)
        if time.monotonic() - began > 120:
            return Outcome("fault", "took more than two minutes")
        if "Traceback" in text or code not in {0, 1, 4}:
            return Outcome("fault", f"exit code {code}: {text[-300:]}")
        if code:
            named = [part for part in (case.file.name, case.file.parent.name, str(RUN)) if part and part in text]
            return Outcome("refused", text) if named else Outcome("fault", f"names no file: {text[-300:]}")
        left_out = set[str]()
        if "warning[" in text and str(case.file) in text:  # its loss was reported; a policy describes its metrics, too
            left_out = {case.file.relative_to("stages").as_posix(), f"{case.file.parts[1]}/policy/MANIFEST.json"}
            damaged.unlink(missing_ok=True)
        try:
            found = results(RUN)
        except ValueError as error:
            return Outcome("fault", f"metrics that are no JSON: {error}")
        differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        differ = [name for name in differ if name not in left_out]
        return Outcome("fault", f"differ: {', '.join(differ)[:300]}") if differ else Outcome("same")


def cases(states: dict[str, Path], only: str, kinds: list[str]) -> Iterator[Case]:
    """Every file of both states and every kind of damage."""
    for state in ("stopped", "finished"):
        home = states[state] / RUN
        for path in sorted(p for p in home.rglob("*") if p.is_file()):
            name = path.relative_to(home)
            yield from (Case(state, name, kind) for kind in kinds if only in str(name).lower())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files with this text in their path")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="a kind of damage; default: all")
    parser.add_argument("--share", type=int, default=1, help="try each n-th case only")
    parser.add_argument("--show", action="store_true", help="print the diagnostics of every refusal")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts: Counter[tuple[str, str]] = Counter()
    faults = []
    with tempfile.TemporaryDirectory() as work:
        os.environ["XDG_CACHE_HOME"] = str(Path(work, "cache"))
        states = prepare(Path(work))
        expected = results(states["finished"] / RUN)
        for case in list(cases(states, options.only, options.kind or list(KINDS)))[:: options.share]:
            outcome = tried(case, states, expected)
            counts[case.kind, outcome.verdict] += 1
            if outcome.verdict == "fault":
                faults.append(f"{case.state} {case.file} {case.kind}: {outcome.why}")
                print(faults[-1], flush=True)
            elif options.show:
                print(case, outcome.verdict, outcome.why, flush=True)
    print("\n| damage | same result | refused | faults |\n|---|---:|---:|---:|")
    for kind in KINDS:
        print(f"| {kind} | {counts[kind, 'same']} | {counts[kind, 'refused']} | {counts[kind, 'fault']} |")
    print(f"\n{counts.total()} cases, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()

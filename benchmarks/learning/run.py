"""Train the same small model in several ways from the same start, with the same seeds, and compare how they learn.

    pip install 'recipec[train,envs]' matplotlib
    python benchmarks/learning/run.py household --seeds 8 --out runs/learning
    python benchmarks/learning/run.py multihop --seeds 8 --out runs/learning
    python benchmarks/learning/run.py dermiq --seeds 5 --out runs/learning
    python benchmarks/learning/run.py all --seeds 8 --out runs/learning --figures docs

Data and the warm start are made once, below --out; then every side runs once for each seed, two at a time on one core
each.  A command that was cut off is given again: runs that are done are kept, the others go on.
Prints Markdown tables; --figures is where the plots go, as learning-NAME.svg.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import curves

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Compared:
    """One side against another, at the same place of an axis."""

    side: str
    against: str
    axis: str


@dataclass(frozen=True)
class Bench:
    """A task: how its data are made, the sides that are trained, and what is compared."""

    name: str
    make: tuple[str, ...]
    sides: tuple[str, ...]
    compared: tuple[Compared, ...]
    shown: str
    own: tuple[str, ...] = ()


BENCHES = {
    "household": Bench(
        "household",
        ("40000",),
        ("gigpo", "grpo", "tree_gigpo", "tree_grpo"),
        (
            Compared("gigpo", "grpo", "steps"),
            Compared("tree_gigpo", "gigpo", "tokens"),
            Compared("tree_gigpo", "tree_grpo", "tokens"),
            Compared("tree_gigpo", "grpo", "tokens"),
            Compared("tree_grpo", "grpo", "tokens"),
        ),
        "tokens",
        ("--use", "house.py"),
    ),
    "multihop": Bench(
        "multihop",
        (str(ROOT / "recipes" / "tree_grpo" / "data"),),
        ("tree", "chain"),
        (Compared("tree", "chain", "tokens"), Compared("tree", "chain", "calls")),
        "tokens",
    ),
    "dermiq": Bench(
        "dermiq",
        (str(ROOT / "recipes" / "tiny" / "data" / "dermiq"),),
        ("grpo_pp", "grpo"),
        (Compared("grpo_pp", "grpo", "steps"),),
        "steps",
    ),
}


def call(words: list[str], home: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process in a folder, its output in a file."""
    with log.open("ab") as said:
        return subprocess.Popen(
            [sys.executable, *words], cwd=home, env={**os.environ, **THREADS}, stdout=said, stderr=said
        )


def waited(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a process; end with its output if it failed."""
    if process.wait():
        sys.exit(f"failed, see {log}:\n{log.read_text(errors='replace')[-2000:]}")


def prepare(bench: Bench, home: Path) -> None:
    """Copy the recipes, make the data and train the warm start, as far as that is not done."""
    home.mkdir(parents=True, exist_ok=True)
    for path in (HERE / bench.name).iterdir():
        if path.suffix in {".py", ".yaml", ".j2"}:
            shutil.copy(path, home)
    for words, made in (
        (["make.py", *bench.make], home / "demonstrations.jsonl"),
        (["-m", "recipec", "run", "warm.yaml", "--out", "warm-run", "--quiet"], home / "warm-run" / "model"),
    ):
        if not made.exists():
            waited(call(words, home, home / "prepare.log"), home / "prepare.log")
    if not (home / "warm").exists():
        shutil.copytree(home / "warm-run" / "model", home / "warm")


def runs(bench: Bench, home: Path, seeds: range, overrides: list[str]) -> Iterator[tuple[list[str], Path]]:
    """Name every run: seeds outermost, so that what is there after a part of the time is paired."""
    for seed in seeds:
        for side in bench.sides:
            out = home / "runs" / f"{side}-{seed}"
            said = [word for key in (f"seed={seed}", *overrides) for word in ("--set", key)]
            words = ["-m", "recipec", "run", f"{side}.yaml", *bench.own, *said, "--out", str(out), "--quiet"]
            yield words, out


def train(bench: Bench, home: Path, seeds: range, overrides: list[str], jobs: int) -> None:
    """Run all that is not done, so many at a time."""
    (home / "runs").mkdir(exist_ok=True)
    going: list[tuple[subprocess.Popen[bytes], Path]] = []
    for words, out in runs(bench, home, seeds, overrides):
        if (out / "model").exists():
            continue
        while len(going) >= jobs:
            time.sleep(0.2)
            for one in [one for one in going if one[0].poll() is not None]:
                going.remove(one)
                waited(*one)
        log = home / "runs" / f"{out.name}.log"
        print(f"{time.strftime('%H:%M:%S')} {bench.name} {out.name}", file=sys.stderr)
        going.append((call(words, home, log), log))
    for one in going:
        waited(*one)


def report(bench: Bench, home: Path, seeds: range, figures: Path | None) -> None:
    """Print the tables of a task and draw its curves."""
    read = {s: [curves.read(home / "runs" / f"{s}-{n}" / "stages" / "explore") for n in seeds] for s in bench.sides}
    print(f"\n### {bench.name}, {len(seeds)} seeds\n")
    print(curves.sides_table(read), end="\n\n")
    print(curves.compared_table(read, [(c.side, c.against, c.axis) for c in bench.compared]))
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        curves.draw(read, bench.shown, figures / f"learning-{bench.name}.svg")


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("bench", choices=[*BENCHES, "all"])
    said.add_argument("--seeds", type=int, default=8, help="runs of each side")
    said.add_argument("--first-seed", type=int, default=0, help="seed of the first; settings were chosen with 100 on")
    said.add_argument("--out", type=Path, required=True, help="folder of data, warm starts and runs")
    said.add_argument("--figures", type=Path, help="folder of the plots")
    said.add_argument("--sides", nargs="+", help="only these sides")
    said.add_argument("--set", action="append", default=[], dest="overrides", help="override a key of every side")
    said.add_argument("--jobs", type=int, default=2, help="processes at a time")
    chosen = said.parse_args()
    seeds = range(chosen.first_seed, chosen.first_seed + chosen.seeds)
    for bench in BENCHES.values():
        if chosen.bench not in {bench.name, "all"}:
            continue
        if chosen.sides:
            sides = tuple(side for side in bench.sides if side in chosen.sides)
            kept = tuple(c for c in bench.compared if {c.side, c.against} <= set(sides))
            bench = Bench(bench.name, bench.make, sides, kept, bench.shown, bench.own)  # noqa: PLW2901
        home = (chosen.out / bench.name).resolve()
        prepare(bench, home)
        train(bench, home, seeds, chosen.overrides, chosen.jobs)
        report(bench, home, seeds, chosen.figures)


if __name__ == "__main__":
    main()

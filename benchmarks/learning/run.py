"""Train the same small model with several recipes from the same weights and seeds, and compare how they learn.

    pip install 'recipec[train,envs]' matplotlib
    python benchmarks/learning/run.py household --seeds 8 --out runs/learning
    python benchmarks/learning/run.py multihop --seeds 8 --out runs/learning
    python benchmarks/learning/run.py route --seeds 8 --out runs/learning --jobs 1
    python benchmarks/learning/run.py dermiq --seeds 5 --out runs/learning
    python benchmarks/learning/run.py objectives --seeds 3 --out runs/learning
    python benchmarks/learning/run.py all --seeds 8 --out runs/learning --figures docs

Data and the warm start are made once, under --out.  Then every side runs once per seed, in --jobs processes on one core
each.  If the command is interrupted, run it again: finished runs are kept, the others are continued.
Prints Markdown tables; the plots are written to the folder --figures as learning-NAME.svg.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import curves

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Compared:
    """A comparison of two sides at the same point of an axis."""

    side: str
    against: str
    axis: str


@dataclass(frozen=True)
class Bench:
    """A task: arguments of its make.py, the sides that are trained, and the comparisons."""

    name: str
    make: tuple[str, ...]
    sides: tuple[str, ...]
    compared: tuple[Compared, ...]
    shown: str
    own: str | None = None
    folder: str = ""
    """Of the recipes, if it has another name."""


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
        "house.py",
    ),
    "multihop": Bench(
        "multihop",
        (str(ROOT / "recipes" / "tree_grpo" / "data"),),
        ("tree", "chain"),
        (Compared("tree", "chain", "tokens"), Compared("tree", "chain", "calls")),
        "tokens",
    ),
    "route": Bench(
        "route",
        ("late", "24000"),
        ("chain", "inter", "tree", "leaf_mean"),
        tuple(
            Compared(side, against, "tokens")
            for side, against in (
                ("tree", "chain"),
                ("inter", "chain"),
                ("leaf_mean", "chain"),
                ("tree", "inter"),
                ("leaf_mean", "tree"),
            )
        ),
        "tokens",
        "route.py",
    ),
    "route_early": Bench(
        "route_early",
        ("early", "24000"),
        ("chain", "tree"),
        (Compared("tree", "chain", "tokens"),),
        "tokens",
        "route.py",
        "route",
    ),
    "objectives": Bench(
        "objectives",
        ("0",),
        ("grpo", "ppo", "cispo", "reward_model", "orpo", "kto"),
        tuple(Compared(side, "grpo", "steps") for side in ("ppo", "cispo", "reward_model", "orpo", "kto")),
        "steps",
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
    """Start a Python process in a folder and write its output to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *words], cwd=home, env={**os.environ, **THREADS}, stdout=output, stderr=output
        )


def waited(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a process; exit with its output if it failed."""
    if process.wait():
        sys.exit(f"failed, see {log}:\n{log.read_text(errors='replace')[-2000:]}")


def copied(name: str, home: Path) -> None:
    """Copy the recipes of a task and the code of its data."""
    home.mkdir(parents=True, exist_ok=True)
    for path in (HERE / name).iterdir():
        if path.suffix in {".py", ".yaml", ".j2"}:
            shutil.copy(path, home)


def prepare(bench: Bench, home: Path) -> None:
    """Copy the recipes, make the data and train the warm start, unless that is done."""
    copied(bench.folder or bench.name, home)
    for words, made in (
        (["make.py", *bench.make], home / "demonstrations.jsonl"),
        (["-m", "recipec", "run", "warm.yaml", "--out", "warm-run", "--quiet"], home / "warm-run" / "model"),
    ):
        if not made.exists():
            waited(call(words, home, home / "prepare.log"), home / "prepare.log")
    if not (home / "warm").exists():
        shutil.copytree(home / "warm-run" / "model", home / "warm")


def runs(bench: Bench, home: Path, seeds: range, overrides: list[str]) -> Iterator[dict[str, object]]:
    """Yield every run; seeds are the outer loop, so that finished runs are paired at any time."""
    use = [str(home / bench.own)] if bench.own else []
    for seed in seeds:
        for side in bench.sides:
            out, given = home / "runs" / f"{side}-{seed}", [f"seed={seed}", *overrides]
            yield {"recipe": str(home / f"{side}.yaml"), "overrides": given, "out": str(out), "use": use}


def train(bench: Bench, home: Path, seeds: range, overrides: list[str], jobs: int) -> None:
    """Run everything that is not done, dealt to ``jobs`` processes."""
    (home / "runs").mkdir(exist_ok=True)
    left = [one for one in runs(bench, home, seeds, overrides) if not (Path(str(one["out"])) / "model").exists()]
    going = []
    for job in range(jobs):
        listed, log = home / "runs" / f"job-{job}.json", home / "runs" / f"job-{job}.log"
        listed.write_text(json.dumps(left[job::jobs], indent=1))
        going.append((call([str(HERE / "series.py"), str(listed)], home, log), log))
    for one in going:
        waited(*one)


def report(bench: Bench, home: Path, seeds: range, figures: Path | None) -> None:
    """Print the tables of a task and plot its curves."""
    read = {s: [curves.read(home / "runs" / f"{s}-{n}" / "stages" / "explore") for n in seeds] for s in bench.sides}
    print(f"\n### {bench.name}, {len(seeds)} seeds\n")
    print(curves.sides_table(read), end="\n\n")
    print(curves.compared_table(read, [(c.side, c.against, c.axis) for c in bench.compared]))
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        curves.draw(read, bench.shown, figures / f"learning-{bench.name}.svg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", choices=[*BENCHES, "all"])
    parser.add_argument("--seeds", type=int, default=8, help="number of seeds; each side runs once per seed")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="first seed; settings were chosen with seeds from 100 on"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for data, warm starts and runs")
    parser.add_argument("--figures", type=Path, help="folder for the plots")
    parser.add_argument("--sides", nargs="+", help="train and compare these sides only")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="override a key of every side")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args()
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for bench in BENCHES.values():
        if options.bench not in {bench.name, "all"}:
            continue
        if options.sides:
            sides = tuple(side for side in bench.sides if side in options.sides)
            kept = tuple(c for c in bench.compared if {c.side, c.against} <= set(sides))
            bench = replace(bench, sides=sides, compared=kept)  # noqa: PLW2901
        home = (options.out / bench.name).resolve()
        prepare(bench, home)
        train(bench, home, seeds, options.overrides, options.jobs)
        report(bench, home, seeds, options.figures)


if __name__ == "__main__":
    main()

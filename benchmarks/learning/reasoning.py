"""Train SmolLM2-135M-Instruct on a mix of three tasks of reasoning-gym by GRPO, RLOO and CISPO, at equal tokens.

    pip install 'recipec[train,envs,demo]' matplotlib
    python benchmarks/learning/reasoning.py --seeds 3 --out runs/learning --figures docs

Each seed trains on other problems.  If the command is interrupted, run it again: finished runs are kept, the others are
continued.  Prints Markdown tables; tokens are those that the runs counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import curves
import numpy as np
from run import Bench, Compared, copied, train

TASKS = ("chain_sum", "products", "lcm")
PAIRS = (("rloo", "grpo"), ("cispo", "grpo"), ("cispo", "rloo"))
BENCH = Bench("reasoning", (), ("grpo", "rloo", "cispo"), tuple(Compared(*pair, "tokens") for pair in PAIRS), "tokens")


def gains_table(home: Path, seeds: range) -> str:
    """Return held-out accuracy before and after training, by task and objective, with gains paired by seed."""
    lines = ["| task | objective | before | after | gain |", "|---|---|---|---|---|"]
    for task in (*TASKS, "mean"):
        for side in BENCH.sides:
            before, after = np.array([list(accuracies(home / "runs" / f"{side}-{n}", task)) for n in seeds]).T
            mean, half = curves.interval(after)
            cells = f"{before.mean():.3f} | {mean:.3f} ± {half:.3f} | {curves.signed(after - before)}"
            lines.append(f"| {task} | `{side}` | {cells} |")
    return "\n".join(lines)


def accuracies(run: Path, task: str) -> Iterator[float]:
    """Yield held-out accuracy before and after training, of one task or the mean of all."""
    table = json.loads((run / "results.json").read_text(encoding="utf-8"))
    for row in table["rows"]:
        yield float(np.mean([row["values"][f"{name}/accuracy"] for name in TASKS if task in {name, "mean"}]))


def practised(home: Path, seeds: range) -> Mapping[str, Sequence[float]]:
    """Return for each task the share of held-out prompts that a run has trained on, over all runs."""
    shares: dict[str, list[float]] = {task: [] for task in TASKS}
    for side in BENCH.sides:
        for seed in seeds:
            stage = home / "runs" / f"{side}-{seed}" / "stages" / "explore"
            trained = set(prompts(sorted((stage / "rollouts").glob("*.jsonl"))))
            for task, found in shares.items():
                held_out = list(prompts([stage / "samples" / f"eval-{task}-000000.jsonl"]))
                found.append(float(np.mean([prompt in trained for prompt in held_out])))
    return shares


def prompts(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the prompt of every sample in files."""
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)["prompt"]


def report(home: Path, seeds: range, figures: Path | None) -> None:
    """Print the tables and plot the curves."""
    read = {
        side: [curves.read(home / "runs" / f"{side}-{n}" / "stages" / "explore", TASKS) for n in seeds]
        for side in BENCH.sides
    }
    print(gains_table(home, seeds), curves.sides_table(read), sep="\n\n", end="\n\n")
    print(curves.compared_table(read, [(c.side, c.against, c.axis) for c in BENCH.compared]))
    for task, shares in practised(home, seeds).items():
        print(f"\nHeld-out prompts of {task} that a run trained on: {min(shares):.2f} to {max(shares):.2f}")
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        curves.draw(read, BENCH.shown, figures / f"learning-{BENCH.name}.svg")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--figures", type=Path, help="folder for the plot")
    options = parser.parse_args()
    home, seeds = (options.out / BENCH.name).resolve(), range(options.first_seed, options.first_seed + options.seeds)
    copied(BENCH.name, home)
    train(BENCH, home, seeds, [], jobs=1)
    report(home, seeds, options.figures)


if __name__ == "__main__":
    main()

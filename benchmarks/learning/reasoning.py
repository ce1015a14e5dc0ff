"""Train SmolLM2-135M-Instruct on a mix of three tasks of reasoning-gym by GRPO, RLOO and CISPO, at equal tokens.

    pip install 'recipec[train,envs,demo]' matplotlib
    python benchmarks/learning/reasoning.py --seeds 3 --out runs/learning --figures docs

Each seed trains on other problems.  If the command is interrupted, run it again: finished runs are kept, the others are
continued.  Prints Markdown tables; tokens are those that the runs counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import curves
import numpy as np
from run import Bench, Compared, copied, train

TASKS = ("chain_sum", "products", "lcm")
RIGHT = "rewards/right/mean"
"""Metric of right answers in training; the reward of RLOO has a KL penalty, too."""
PAIRS = (("rloo", "grpo"), ("cispo", "grpo"), ("cispo", "rloo"))
BENCH = Bench("reasoning", (), ("grpo", "rloo", "cispo"), tuple(Compared(*pair, "tokens") for pair in PAIRS), "tokens")


def gains_table(home: Path, seeds: range) -> str:
    """Return held-out accuracy before and after training, and gains paired by seed, also on prompts not trained on."""
    lines = ["| task | objective | before | after | gain | gain on prompts not trained on |", "|" + "---|" * 6]
    for task in (*TASKS, "mean"):
        for side in BENCH.sides:
            found = np.array([accuracies(home / "runs" / f"{side}-{n}" / "stages" / "explore", task) for n in seeds])
            before, after, new_before, new_after = found.T
            mean, half = curves.interval(after)
            gains = f"{curves.signed(after - before)} | {curves.signed(new_after - new_before)}"
            lines.append(f"| {task} | `{side}` | {before.mean():.3f} | {mean:.3f} ± {half:.3f} | {gains} |")
    return "\n".join(lines)


def accuracies(stage: Path, task: str) -> tuple[float, ...]:
    """Return held-out accuracy before and after training, of all prompts and of those that the run did not train on.

    ``task`` is one of the tasks, or ``mean`` for the mean of all.
    """
    if task == "mean":
        return tuple(np.mean([accuracies(stage, one) for one in TASKS], 0).tolist())
    trained = {row["prompt"] for path in (stage / "rollouts").glob("step-*.jsonl") for row in rows(path)}
    before, *_, after = (rows(path) for path in sorted((stage / "samples").glob(f"eval-{task}-*.jsonl")))
    new = [[row for row in one if row["prompt"] not in trained] for one in (before, after)]
    return tuple(float(np.mean([row["reward"] for row in one])) for one in (before, after, *new))


def redrawn_table(home: Path, seeds: range, draws: int = 4000) -> str:
    """Return 95 % bootstrap intervals of gains where seeds and held-out problems are drawn again."""
    lines = [f"| objective | {' | '.join((*TASKS, 'mean'))} |", "|" + "---|" * 5]
    for side in BENCH.sides:
        gains_TSP = np.array([[gains(home / "runs" / f"{side}-{n}", task) for n in seeds] for task in TASKS])
        _, seeds_S, problems_P = map(np.arange, gains_TSP.shape)
        random = np.random.default_rng(0)
        found = np.empty((draws, len(TASKS) + 1))
        for draw in found:
            drawn_S = random.choice(seeds_S, len(seeds_S))
            draw[:-1] = [one_SP[drawn_S][:, random.choice(problems_P, len(problems_P))].mean() for one_SP in gains_TSP]
            draw[-1] = draw[:-1].mean()
        cells = [f"[{low:+.3f}, {high:+.3f}]" for low, high in np.percentile(found, (2.5, 97.5), axis=0).T]
        lines.append(f"| `{side}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(run: Path, task: str) -> np.ndarray:
    """Return the gain of each held-out problem of a task: -1, 0 or 1."""
    before, *_, after = sorted((run / "stages" / "explore" / "samples").glob(f"eval-{task}-*.jsonl"))
    return np.subtract(*([row["reward"] for row in rows(path)] for path in (after, before)))


def rows(path: Path) -> list[Any]:
    """Return the samples in a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report(home: Path, seeds: range, figures: Path | None) -> None:
    """Print the tables and plot the curves."""
    read = {
        side: [curves.read(home / "runs" / f"{side}-{n}" / "stages" / "explore", TASKS, RIGHT) for n in seeds]
        for side in BENCH.sides
    }
    tables = gains_table(home, seeds), redrawn_table(home, seeds), curves.sides_table(read)
    print(*tables, sep="\n\n", end="\n\n")
    print(curves.compared_table(read, [(c.side, c.against, c.axis) for c in BENCH.compared]))
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

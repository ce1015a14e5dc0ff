"""Train with few data and noisy rewards at several learning rates, and compare how far the runs of a method part.

    python benchmarks/learning/stability.py --seeds 8 --out runs/learning

Data and the warm start are made once, under --out.  If the command is interrupted, run it again.
Prints a table for each learning rate, and one over all of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import curves
import numpy as np
from run import HERE, Bench, call, prepare, waited

RATES = ("5e-4", "1e-3", "2e-3", "4e-3")
SIDES = ("grpo_pp", "grpo", "dr_grpo", "rloo")
BENCH = Bench("few", ("24",), SIDES, (), "steps", "few.py")
LAST = 2
"""The end of a run is the mean of this number of evaluations."""
DRAWS = 10_000


def folder(home: Path, side: str, rate: str, seed: int) -> Path:
    """Return where a run is."""
    return home / "runs" / f"{side}-{rate}-{seed}"


def train(home: Path, seeds: range) -> None:
    """Run everything that is not done; seeds are the outer loop, so that finished runs are paired at any time."""
    left = [
        {
            "recipe": str(home / f"{side}.yaml"),
            "overrides": [f"seed={seed}", f"stages.explore.optimizer.learning_rate={rate}"],
            "out": str(folder(home, side, rate, seed)),
            "use": [str(home / "few.py")],
        }
        for seed in seeds
        for rate in RATES
        for side in SIDES
    ]
    listed, log = home / "list.json", home / "runs.log"
    listed.write_text(json.dumps(left, indent=1))
    waited(call([str(HERE / "series.py"), str(listed)], home, log), log)


def ends(home: Path, rate: str, seeds: range) -> dict[str, np.ndarray]:
    """Return held-out accuracy at the end of every run of a learning rate, by side."""
    read = {s: [curves.read(folder(home, s, rate, n) / "stages" / "explore") for n in seeds] for s in SIDES}
    return {side: np.array([curve.success[-LAST:].mean() for curve in found]) for side, found in read.items()}


def spreads(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return a 95 % interval of the ratio of two standard deviations, over paired seeds drawn with replacement."""
    drawn = np.random.default_rng(0).integers(len(one), size=(DRAWS, len(one)))
    floor = 1e-3
    ratio = (one[drawn].std(1, ddof=1) + floor) / (other[drawn].std(1, ddof=1) + floor)
    return float(np.quantile(ratio, 0.025)), float(np.quantile(ratio, 0.975))


def table(found: Mapping[str, np.ndarray], begun: float) -> str:
    """Return a table of the ends of runs, and how GRPO++ compares with each other side, paired."""
    titles = ("side", "end, mean", "standard deviation", "worst run", "below the warm start", "GRPO++ minus it")
    lines = [f"| {' | '.join(titles)} | deviation: GRPO++ over it |", "|---|---|---|---|---|---|---|"]
    own = found["grpo_pp"]
    for side, values in found.items():
        cells = [f"{values.mean():.3f}", f"{values.std(ddof=1):.3f}", f"{values.min():.3f}"]
        cells.append(f"{int((values < begun).sum())} of {len(values)}")
        if side != "grpo_pp":
            low, high = spreads(own, values)
            cells += [
                curves.signed(own - values),
                f"{own.std(ddof=1) / values.std(ddof=1):.2f} [{low:.2f}, {high:.2f}]",
            ]
        lines.append(f"| `{side}` | {' | '.join(cells + ['', ''] * (side == 'grpo_pp'))} |")
    return "\n".join(lines)


def pooled(found: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the mean over learning rates of every seed."""
    return {side: np.mean([one[side] for one in found], axis=0) for side in SIDES}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    home, seeds = (options.out / BENCH.name).resolve(), range(options.seeds)
    prepare(BENCH, home)
    train(home, seeds)
    begun = float(curves.read(folder(home, "grpo", RATES[0], 0) / "stages" / "explore").success[0])
    every = [ends(home, rate, seeds) for rate in RATES]
    print(f"warm start: {begun:.3f}")
    for rate, found in zip(RATES, every, strict=True):
        print(f"\nLearning rate {rate}:\n\n{table(found, begun)}")
    print(f"\nMean over the learning rates of each seed:\n\n{table(pooled(every), begun)}")


if __name__ == "__main__":
    main()

"""Compare GiGPO with GRPO in the household at three learning rates, with and without a KL term.

    python benchmarks/learning/gigpo_rates.py --seeds 16 --out runs/learning

Data and the warm start are made once, under --out.  If the command is interrupted, run it again.
Hypotheses and statistics were fixed before the seeds ran: household/HYPOTHESES.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import curves
import numpy as np
from run import BENCHES, HERE, call, prepare, waited

FIRST_SEED = 16
LAST = 2
"""The end of a run is the mean of this number of evaluations."""


@dataclass(frozen=True)
class Condition:
    """A learning rate and a KL coefficient, equal for all sides."""

    learning_rate: str
    beta: str
    sides: tuple[str, ...] = ("gigpo", "grpo")

    def overrides(self) -> list[str]:
        """Return the keys that differ from the files of the sides."""
        return [
            f"stages.explore.optimizer.learning_rate={self.learning_rate}",
            *([f"stages.explore.loss.beta={self.beta}"] if float(self.beta) else []),
        ]


CONDITIONS = (
    Condition("2.5e-4", "0"),
    Condition("5e-4", "0", ("gigpo", "grpo", "hgpo", "rtmc")),
    Condition("1e-3", "0"),
    Condition("2.5e-4", "0.01"),
    Condition("5e-4", "0.01"),
    Condition("1e-3", "0.01"),
)


def folder(home: Path, condition: Condition, side: str, seed: int) -> Path:
    """Return the run directory of a side under a condition."""
    return home / "rates" / f"{side}-{condition.learning_rate}-{condition.beta}-{seed}"


def train(home: Path, seeds: range, jobs: int) -> None:
    """Run everything that is not done; seeds are the outer loop, so that finished runs are paired at any time."""
    runs = [
        {
            "recipe": str(home / f"{side}.yaml"),
            "overrides": [f"seed={seed}", *condition.overrides()],
            "out": str(folder(home, condition, side, seed)),
            "use": [str(home / "house.py")],
        }
        for seed in seeds
        for condition in CONDITIONS
        for side in condition.sides
    ]
    started = []
    for job in range(jobs):
        listed, log = home / f"rates-{job}.json", home / f"rates-{job}.log"
        listed.write_text(json.dumps(runs[job::jobs], indent=1))
        started.append((call([str(HERE / "series.py"), str(listed)], home, log), log))
    for process, log in started:
        waited(process, log)


def finished(home: Path, seeds: range) -> list[int]:
    """Return the seeds that are finished in every condition."""
    return [
        seed
        for seed in seeds
        if all((folder(home, c, side, seed) / "model").exists() for c in CONDITIONS for side in c.sides)
    ]


def areas_and_ends(curves_read: Sequence[curves.Curve]) -> tuple[np.ndarray, np.ndarray]:
    """Return the area under held-out success over steps and its mean at the end, for each run."""
    areas = np.array([curves.area(curve.at, "steps", curve.spent["steps"][-1]) for curve in curves_read])
    return areas, np.array([curve.success[-LAST:].mean() for curve in curves_read])


def collapsed(curves_read: Sequence[curves.Curve]) -> int:
    """Return how many runs end below half of their best evaluation."""
    return sum(curve.success[-LAST:].mean() < curve.success.max() / 2 for curve in curves_read)


def read(home: Path, condition: Condition, seeds: Sequence[int]) -> dict[str, list[curves.Curve]]:
    """Return the curves of every side of a condition."""
    return {
        side: [curves.read(folder(home, condition, side, seed) / "stages" / "explore") for seed in seeds]
        for side in condition.sides
    }


def compared(sides: Mapping[str, Sequence[curves.Curve]], side: str, against: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the paired differences of areas and ends, a seed each."""
    (areas, ends), (other_areas, other_ends) = areas_and_ends(sides[side]), areas_and_ends(sides[against])
    return areas - other_areas, ends - other_ends


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--print-only", action="store_true", help="train nothing, print what is finished")
    options = parser.parse_args()
    home, every = (options.out / "household").resolve(), range(FIRST_SEED, FIRST_SEED + options.seeds)
    if not options.print_only:
        prepare(BENCHES["household"], home)
        train(home, every, options.jobs)
    seeds = finished(home, every)
    print(f"{len(seeds)} seeds\n\n| learning rate | KL | compared | area | difference | end | difference | collapsed |")
    print("|---|---|---|---|---|---|---|---|")
    differences = []
    for condition in CONDITIONS:
        sides = read(home, condition, seeds)
        pairs = [("gigpo", "grpo")] + [(s, a) for s in condition.sides[2:] for a in ("grpo", "gigpo")]
        for side, against in pairs:
            area_S, end_S = compared(sides, side, against)
            if (side, against) == ("gigpo", "grpo"):
                differences.append((area_S, end_S))
            means = [np.mean(value) for s in (side, against) for value in areas_and_ends(sides[s])]
            cells = [condition.learning_rate, condition.beta, f"`{side}` against `{against}`"]
            cells += [f"{means[0]:.3f} and {means[2]:.3f}", curves.signed(area_S)]
            cells += [f"{means[1]:.3f} and {means[3]:.3f}", curves.signed(end_S)]
            cells.append(f"{collapsed(sides[side])} and {collapsed(sides[against])}")
            print(f"| {' | '.join(cells)} |")
    for name, values in zip(("area", "end"), zip(*differences, strict=True), strict=True):
        print(f"\nMean over the conditions, {name}: {curves.signed(np.mean(values, axis=0))}")


if __name__ == "__main__":
    main()

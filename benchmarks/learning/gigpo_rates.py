"""Compare GiGPO with GRPO in the household at three learning rates, with and without a KL term.

    python benchmarks/learning/gigpo_rates.py --seeds 16 --out runs/learning
    python benchmarks/learning/gigpo_rates.py --seeds 8 --first-seed 24 --stepwise --out runs/learning

The second command compares HGPO and RTMC with both at one rate, without a KL term.
Data and the warm start are made once, under --out.  If the command is interrupted, run it again.
Hypotheses and statistics were fixed before the seeds ran: household/HYPOTHESES.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import curves
import numpy as np
from run import BENCHES, HERE, call, prepare, waited

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


RATES, BETAS = ("2.5e-4", "5e-4", "1e-3"), ("0", "0.01")
CONDITIONS = tuple(Condition(rate, beta) for beta in BETAS for rate in RATES)
STEPWISE = Condition("5e-4", "0", ("gigpo", "grpo", "hgpo", "rtmc"))
"""With other advantages by step, under the condition of the earlier experiment."""


def folder(home: Path, condition: Condition, side: str, seed: int) -> Path:
    """Return the run directory of a side under a condition."""
    return home / "rates" / f"{side}-{condition.learning_rate}-{condition.beta}-{seed}"


def blocks(seeds: range) -> Iterator[tuple[Condition, int]]:
    """Yield conditions and seeds in the order in which they run: HYPOTHESES.md has the reason."""
    half = len(seeds) // 2
    for part in (seeds[:half], seeds[half:]):
        for beta in BETAS:
            yield from ((c, seed) for seed in part for c in CONDITIONS if c.beta == beta)
    yield from ((STEPWISE, seed) for seed in seeds)


def train(home: Path, listed_blocks: Iterable[tuple[Condition, int]], jobs: int) -> None:
    """Run everything that is not done."""
    by_folder = {
        str(out): {
            "recipe": str(home / f"{side}.yaml"),
            "overrides": [f"seed={seed}", *condition.overrides()],
            "out": str(out),
            "use": [str(home / "house.py")],
        }
        for condition, seed in listed_blocks
        for side in condition.sides
        for out in [folder(home, condition, side, seed)]
    }
    runs = list(by_folder.values())
    started = []
    for job in range(jobs):
        listed, log = home / f"rates-{job}.json", home / f"rates-{job}.log"
        listed.write_text(json.dumps(runs[job::jobs], indent=1))
        started.append((call([str(HERE / "series.py"), str(listed)], home, log), log))
    for process, log in started:
        waited(process, log)


def finished(home: Path, conditions: Iterable[Condition], seeds: range) -> list[int]:
    """Return the seeds that are finished under each of the conditions."""
    return [
        seed
        for seed in seeds
        if all((folder(home, c, side, seed) / "model").exists() for c in conditions for side in c.sides)
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


def row(condition: Condition, sides: Mapping[str, Sequence[curves.Curve]], side: str, against: str) -> str:
    """Return the row of a table that compares two sides under a condition."""
    area_S, end_S = compared(sides, side, against)
    (area, end), (other_area, other_end) = (map(np.mean, areas_and_ends(sides[s])) for s in (side, against))
    cells = [condition.learning_rate, condition.beta, f"`{side}` against `{against}`", str(len(area_S))]
    cells += [f"{area:.3f} and {other_area:.3f}", curves.signed(area_S)]
    cells += [f"{end:.3f} and {other_end:.3f}", curves.signed(end_S)]
    cells.append(f"{collapsed(sides[side])} and {collapsed(sides[against])}")
    return f"| {' | '.join(cells)} |"


def report(home: Path, seeds: range) -> None:
    """Print the tables of what is finished."""
    print("| learning rate | KL | compared | seeds | area | difference | end | difference | collapsed |")
    print("|---|---|---|---|---|---|---|---|---|")
    pooled = {}
    for beta in BETAS:
        conditions = [c for c in CONDITIONS if c.beta == beta]
        done = finished(home, conditions, seeds)
        found = {c: read(home, c, done) for c in conditions} if len(done) > 1 else {}
        for condition, sides in found.items():
            print(row(condition, sides, "gigpo", "grpo"))
        if found:
            pooled[beta] = np.mean([compared(sides, "gigpo", "grpo") for sides in found.values()], axis=0)
    stepwise = finished(home, [STEPWISE], seeds)
    if len(stepwise) > 1:
        sides = read(home, STEPWISE, stepwise)
        for side, against in (
            ("gigpo", "grpo"),
            ("hgpo", "grpo"),
            ("hgpo", "gigpo"),
            ("rtmc", "grpo"),
            ("rtmc", "gigpo"),
        ):
            print(row(STEPWISE, sides, side, against))
    for beta, (area_S, end_S) in pooled.items():
        print(f"\nMean over the rates, KL {beta}: area {curves.signed(area_S)}, end {curves.signed(end_S)}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--first-seed", type=int, default=16)
    parser.add_argument("--stepwise", action="store_true", help="only 5e-4 without a KL term, with HGPO and RTMC")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--print-only", action="store_true", help="train nothing, print what is finished")
    options = parser.parse_args()
    home, seeds = (options.out / "household").resolve(), range(options.first_seed, options.first_seed + options.seeds)
    if not options.print_only:
        prepare(BENCHES["household"], home)
        train(home, ((STEPWISE, seed) for seed in seeds) if options.stepwise else blocks(seeds), options.jobs)
    report(home, seeds)


if __name__ == "__main__":
    main()

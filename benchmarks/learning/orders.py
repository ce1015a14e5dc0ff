"""Train the same small model by SFT, RL and DPO in several orders, and by SFT alone, in one recipe for each seed.

    pip install 'recipec[train]' matplotlib
    python benchmarks/learning/orders.py --seeds 8 --out runs/learning

If the command is interrupted, run it again.  Prints the accuracy after each stage, and differences paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import stages
from curves import interval, signed
from run import HERE, call, copied, waited

COMPARED = (("srd", "ss"), ("sdr", "ss"), ("dsr", "ss"), ("sdr", "srd"), ("dsr", "srd"), ("sr", "s"), ("srd", "sr"))


def prepare(home: Path) -> None:
    """Copy the recipe and write the data."""
    copied("orders", home)
    waited(call(["make.py", "0", str(HERE / "objectives")], home, home / "prepare.log"), home / "prepare.log")


def train(home: Path, seeds: range) -> None:
    """Run every seed that is not done, in one process."""
    left = [
        {
            "recipe": str(home / "orders.yaml"),
            "overrides": [f"seed={seed}"],
            "out": str(home / f"seed-{seed}"),
            "use": [],
        }
        for seed in seeds
    ]
    listed, log = home / "list.json", home / "runs.log"
    listed.write_text(json.dumps(left, indent=1), encoding="utf-8")
    waited(call([str(HERE / "series.py"), str(listed)], home, log), log)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    home, seeds = (options.out / "orders").resolve(), range(options.seeds)
    prepare(home)
    train(home, seeds)
    rows, _, values_SRC = stages.read(home, seeds)
    accuracy = {row.removeprefix("after "): values_SRC[:, place, 0] for place, row in enumerate(rows)}
    print("| after | held-out accuracy |\n|---|---|")
    for name, values in accuracy.items():
        mean, half = interval(values)
        print(f"| `{name}` | {mean:.3f} ± {half:.3f} |")
    print("\n| difference | accuracy |\n|---|---|")
    for one, other in COMPARED:
        print(f"| `{one}` minus `{other}` | {signed(accuracy[one] - accuracy[other])} |")


if __name__ == "__main__":
    main()

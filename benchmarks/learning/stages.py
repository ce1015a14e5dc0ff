"""Measure what each stage of a recipe changes, over several seeds.

    python benchmarks/learning/stages.py [RECIPE] [--seeds 5] --out DIR [--figure FILE.svg]

Runs a whole recipe with each seed and reads its table of held-out results (``results.json``).
± is half a 95 % interval over seeds; changes are paired: the same run before and after the stage.
Runs that are finished in DIR are kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from curves import interval, signed
from run import call, waited

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = ("unknown",)
"""Columns that the tables leave out."""


def train(recipe: Path, home: Path, seeds: range) -> None:
    """Run the recipe with every seed that is not finished."""
    home.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        out = home / f"seed-{seed}"
        if (out / "model").exists():
            continue
        print(f"{time.strftime('%H:%M:%S')} {recipe.name} seed {seed}", file=sys.stderr)
        words = ["-m", "recipec", "run", str(recipe), "--set", f"seed={seed}", "--out", str(out), "--quiet"]
        log = home / f"seed-{seed}.log"
        waited(call(words, ROOT, log), log)


def read(home: Path, seeds: range) -> tuple[list[str], list[str], np.ndarray]:
    """Return the rows and the columns of the tables, and their values: seed, row, column."""
    tables: list[dict[str, Any]] = [
        json.loads((home / f"seed-{seed}" / "results.json").read_text(encoding="utf-8")) for seed in seeds
    ]
    columns = [name for name in tables[0]["columns"] if not name.endswith(SKIPPED)]
    rows = [row["when"] for row in tables[0]["rows"]]
    values = [[[row["values"].get(name, np.nan) for name in columns] for row in table["rows"]] for table in tables]
    return rows, columns, np.array(values)


def table(rows: Sequence[str], columns: Sequence[str], values_SRC: np.ndarray) -> str:
    """Return the table of means over seeds."""
    lines = [f"| | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for number, row in enumerate(rows):
        cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in map(interval, values_SRC[:, number].T)]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def changes(rows: Sequence[str], columns: Sequence[str], values_SRC: np.ndarray) -> str:
    """Return the table of paired changes by stage, with intervals."""
    lines = [f"| change | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
    for number, row in enumerate(rows[1:], 1):
        cells = [signed(change_S) for change_S in (values_SRC[:, number] - values_SRC[:, number - 1]).T]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: Sequence[str], columns: Sequence[str], values_SRC: np.ndarray, path: Path) -> None:
    """Plot every column over the stages: a thin line per seed, a thick one for the mean."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"], mpl.rcParams["svg.fonttype"] = path.stem, "none"
    figure, axes = plt.subplots(1, len(columns), figsize=(2.6 * len(columns), 2.6), layout="constrained")
    at = range(len(rows))
    for place, (axis, column) in enumerate(zip(np.atleast_1d(axes), columns, strict=True)):
        axis.plot(at, values_SRC[:, :, place].T, color="tab:blue", alpha=0.3, linewidth=0.8)
        axis.plot(at, values_SRC[:, :, place].mean(0), color="tab:blue", linewidth=2, marker="o", markersize=3)
        axis.set_title(column, fontsize=8)
        axis.set_xticks(at, [row.removeprefix("after ") for row in rows], rotation=60, fontsize=7)
        axis.tick_params(axis="y", labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", type=Path, default=ROOT / "recipes" / "tiny" / "dermiq.yaml")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--figure", type=Path, help="file for the plot")
    options = parser.parse_args()
    seeds, home = range(options.seeds), options.out.resolve()
    train(options.recipe.resolve(), home, seeds)
    found = read(home, seeds)
    print(table(*found), changes(*found), sep="\n\n")
    if options.figure is not None:
        draw(*found, options.figure)


if __name__ == "__main__":
    main()

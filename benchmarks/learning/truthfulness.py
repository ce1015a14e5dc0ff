"""Train SmolLM2-135M on facts that it half knows: by SFT, by preferences of a knowledge graph, and by random ones.

    pip install 'recipec[train,kg,demo]' matplotlib
    python benchmarks/learning/truthfulness.py --seeds 8 --out runs/learning
    python benchmarks/learning/truthfulness.py --seeds 8 --recipes rag margin --out runs/learning

The second command trains by pairs of answers with and without retrieved facts, and nothing else.
Data are made once, under --out.  Each seed draws other countries to train and to hold out.  If the command is
interrupted, run it again: finished runs are kept, the others are continued.  Prints Markdown tables of claims per
answer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import stages
from curves import interval, signed
from run import ROOT, THREADS, call, copied, waited

import recipec

CORPUS = ROOT / "recipes" / "tree_grpo" / "data" / "corpus.jsonl"
RECIPES = ("facts", "random", "rag", "margin")
POLICIES = {"before": "before training"} | {
    name: f"after {name}" for name in ("sft", "kg_rank", "random", "kg_rag", "margin")
}
"""Policies, and how the table of results calls the moment after which they are evaluated."""
COMPARED = (
    ("kg_rank", "random"),
    ("kg_rank", "sft"),
    ("kg_rank", "before"),
    ("sft", "before"),
    ("random", "before"),
    ("kg_rag", "before"),
    ("kg_rag", "kg_rank"),
    ("kg_rag", "sft"),
    ("margin", "before"),
    ("margin", "kg_rag"),
)
SETS = ("phrasing", "held_out", "retrieved")
COLUMNS = ("consistency", "claims/supported", "claims/contradicted")

Results = Mapping[str, Mapping[str, np.ndarray]]
"""Values over seeds, by policy and column."""


def prepare(home: Path, seeds: range) -> None:
    """Copy the recipes and write the data."""
    copied("facts", home)
    log = home / "prepare.log"
    waited(call(["make.py", str(CORPUS), *map(str, seeds)], home, log), log)


def toss(pairs: Path, path: Path, seed: int) -> None:
    """Write pairs again, of which a coin decides the preferred answer."""
    coin, rows = random.Random(seed), []  # noqa: S311 - data
    for line in pairs.read_text(encoding="utf-8").splitlines():
        pair = json.loads(line)
        answers = [[{"role": "assistant", "content": pair[name]}] for name in ("chosen", "rejected")]
        coin.shuffle(answers)
        rows.append({"prompt": pair["prompt"], "chosen": answers[0], "rejected": answers[1]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def train(home: Path, recipes: Sequence[str], seeds: range) -> None:
    """Run what is not done in this process, seed after seed, so that finished runs are paired at any time."""
    for seed in seeds:
        for recipe in recipes:
            out = home / f"{recipe}-runs" / f"seed-{seed}"
            if recipe == "random":
                pairs = home / "facts-runs" / out.name / "stages" / "kg_rank" / "pairs" / "pairs.jsonl"
                toss(pairs, home / str(seed) / "random.jsonl", seed)
            if not (out / "model").exists():
                recipec.run(home / f"{recipe}.yaml", [f"seed={seed}"], out=out)
                print(time.strftime("%H:%M:%S"), recipe, seed, file=sys.stderr, flush=True)


def read(home: Path, recipes: Sequence[str], seeds: range) -> Results:
    """Read the results of the recipes."""
    results: dict[str, dict[str, np.ndarray]] = {}
    for recipe in recipes:
        rows, columns, values_SRC = stages.read(home / f"{recipe}-runs", seeds)
        for policy, row in POLICIES.items():
            if row in rows and policy not in results:  # `before` of facts.yaml answers all sets
                results[policy] = dict(zip(columns, values_SRC[:, rows.index(row)].T, strict=True))
    return results


def policies_table(results: Results, of: str) -> str:
    """Return the table of a set of questions: means over seeds, ± half a 95 % interval."""
    lines = [f"| {of} | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 1)]
    for policy in filter(results.__contains__, POLICIES):
        values = results[policy]
        if f"{of}/{COLUMNS[0]}" in values:
            cells = [f"{mean:.3f} ± {half:.3f}" for mean, half in (interval(values[f"{of}/{c}"]) for c in COLUMNS)]
            lines.append(f"| `{policy}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences_table(results: Results) -> str:
    """Return the differences of policies, paired by seed, with 95 % intervals."""
    lines = [f"| difference | questions | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 2)]
    for one, other in COMPARED:
        for of in SETS[:2] if {one, other} <= results.keys() else ():
            cells = [signed(results[one][f"{of}/{c}"] - results[other][f"{of}/{c}"]) for c in COLUMNS]
            lines.append(f"| `{one}` minus `{other}` | {of} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    os.environ.update(THREADS)
    home, seeds = (options.out / "facts").resolve(), range(options.first_seed, options.first_seed + options.seeds)
    prepare(home, seeds)
    train(home, options.recipes, seeds)
    results = read(home, options.recipes, seeds)
    print(*[policies_table(results, of) for of in SETS], differences_table(results), sep="\n\n")


if __name__ == "__main__":
    main()

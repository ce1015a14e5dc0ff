"""Validate, compile and plan changed recipes; no exception may leave, and every error has a place and a help.

Starts from the shipped recipes with their includes resolved, and changes them by what a key takes, by values and keys
of other places, by another recipe's stages, by `--set`.  Counts recipes, those that compile and those that are planned;
faults by kind: exceptions by place, more than a second of CPU, errors without a place or a help, edits of a message
that do not remove it.  Ends with 1 if there is a fault.

    python benchmarks/fuzz_recipes.py --recipes 200000 --seed 7
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.recipe_fuzzer import corpus, drawn, tried

CHUNK = 5_000


def main() -> int:
    """Try the recipes, print counts now and then, and each kind of fault with its first recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the first recipe of each kind of fault")
    given = parser.parse_args()
    known, counts, faults = corpus(), Counter[str](), Counter[str]()
    begun = time.monotonic()
    for number in range(given.recipes):
        draw = random.Random(f"{given.seed} {number}")  # noqa: S311 - changes are no secret
        done = tried(*drawn(known, draw))
        counts.update({"recipes": 1, **done.counts})
        for fault in dict.fromkeys(done.faults):
            faults[fault] += 1
            if faults[fault] == 1:
                print(f"{fault}: recipe {number}, {done.overrides}", flush=True)
                if given.keep is not None:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    (given.keep / f"{'-'.join(fault.split())}.yaml").write_text(done.text, encoding="utf-8")
        if (number + 1) % CHUNK == 0 or number + 1 == given.recipes:
            spent = f"{time.monotonic() - begun:.0f} s, {time.process_time():.0f} s of CPU"
            print(dict(counts), f"{faults.total()} faults", dict(faults), spent, flush=True)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

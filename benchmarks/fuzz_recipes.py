"""Validate, compile and plan changed recipes; no exception may leave, and every error has a place and a help.

Starts from the shipped recipes with their includes resolved, and changes them by what a key takes, by values and keys
of other places, by another recipe's stages, by `--set`.  Counts recipes, those that compile and those that are planned;
faults by kind: exceptions by place, more than a second of CPU, errors without a place or a help, edits of a message
that do not remove it.  Ends with 1 if there is a fault.

With `--texts` the text is changed, not the data: characters, lines, pieces of YAML, parts of other recipes. The texts
of ``tests/properties/texts`` are then started from, too; what `--keep` writes is added there once it is corrected.

    python benchmarks/fuzz_recipes.py --recipes 200000 --seed 7
    python benchmarks/fuzz_recipes.py --texts --minutes 10 --seed 7
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
from support.text_fuzzer import changed_text, texts

CHUNK = 5_000


def main() -> int:
    """Try the recipes, print counts now and then, and each kind of fault with its first recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--texts", action="store_true", help="change texts, not data")
    parser.add_argument("--minutes", type=float, default=1e9, help="try no more recipes after this time")
    parser.add_argument("--keep", type=Path, help="folder for the first recipe of each kind of fault")
    given = parser.parse_args()
    known, written, counts, faults = corpus(), texts(), Counter[str](), Counter[str]()
    begun = time.monotonic()
    for number in range(given.recipes):
        draw = random.Random(f"{given.seed} {number}")  # noqa: S311 - changes are no secret
        done = tried(changed_text(written, draw)) if given.texts else tried(*drawn(known, draw))
        counts.update({"recipes": 1, **done.counts})
        for fault in dict.fromkeys(done.faults):
            faults[fault] += 1
            if faults[fault] == 1:
                print(f"{fault}: recipe {number}, {done.overrides}", flush=True)
                if given.keep is not None:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    path = given.keep / f"{'-'.join(fault.split())}.yaml"
                    path.write_bytes(done.text.encode("utf-8", errors="surrogatepass"))
        over = time.monotonic() - begun > 60 * given.minutes
        if over or (number + 1) % CHUNK == 0 or number + 1 == given.recipes:
            spent = f"{time.monotonic() - begun:.0f} s, {time.process_time():.0f} s of CPU"
            print(dict(counts), f"{faults.total()} faults", dict(faults), spent, flush=True)
        if over:
            break
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

"""Count the names of other tools that `recipec validate` has something to say about.

Each name of the lists in `names/` (those of a tool's configuration classes and command lines) is typed in a stage of
the kind that the list is for, with its sections around it. Counted is what the help says: the key here (`named`), that
it cannot be written (`missing`), that it is not needed (`unneeded`), or the keys that exist (`no help`).

    python benchmarks/foreign_names.py [--unknown TOOL]
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from recipec.reading.field_descriptions import keys_of
from recipec.reading.suggestions import for_key
from recipec.spec.recipe import Stage

NAMES = Path(__file__).parent / "names"


def verdict(name: str, kind: str) -> str:
    """Return what the help of an unknown key with this name says."""
    words = name.replace("-", "_").split(".")
    value: object = 3
    for word in reversed(words[1:]):
        value = {word: value}
    found = for_key(words[0], value, ("stages", "train"), keys_of(Stage), {}, kind)
    leaf = found.text
    if " cannot be written here" in leaf:
        return "missing"
    if " is not needed here" in leaf:
        return "unneeded"
    return "named" if (found.meant and not leaf.startswith("did you mean")) or "belongs to" in leaf else "no help"


def main() -> None:
    """Print a table, or the names of one list without help."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unknown", default="", help="Print the names of this list that get no help.")
    unknown = parser.parse_args().unknown
    print(f"{'list':20} {'names':>6} {'named':>6} {'missing':>8} {'unneeded':>9} {'no help':>8} {'share':>6}")
    for path in sorted(NAMES.glob("*.txt")):
        kind = path.stem.rpartition(".")[2]
        names = path.read_text("utf-8").split()
        found = {name: verdict(name, kind) for name in names if name not in keys_of(Stage)}
        count = Counter(found.values())
        share = 1 - count["no help"] / len(found)
        row = f"{len(found):6} {count['named']:6} {count['missing']:8} {count['unneeded']:9} {count['no help']:8}"
        print(f"{path.stem:20} {row} {share:6.0%}")
        if unknown == path.stem:
            print(*(name for name, said in found.items() if said == "no help"), sep="\n")


if __name__ == "__main__":
    main()

"""Count where credit falls in the episodes of the route: by station, how many choices get any, and for what.

    python benchmarks/learning/credit.py RUN [RUN ...]

A choice is one sampled turn; what several leaves of a tree share is one choice, and its credit is the sum over its
copies, as in the gradient.  Rows are read from the samples of each run, which have one advantage a row;
runs with an advantage for each token have none to read.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "route"))

from route import PLACES, SIGNS, right  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

FIRST = len("a>0")


def choices(run: Path) -> Iterator[tuple[int, bool, float]]:
    """Yield station, whether the line was right, and credit of every choice of a run."""
    words = AutoTokenizer.from_pretrained(run / "model")
    for path in sorted((run / "stages" / "explore" / "samples").glob("step-*.jsonl")):
        credit: dict[tuple[str, tuple[int, ...]], float] = defaultdict(float)
        for number, line in enumerate(path.read_text().splitlines()):
            row = json.loads(line)
            ids = [*row["prompt_ids"], *row["ids"]]
            tree = str(row.get("tree_id", f"row {number}"))
            every = row.get("trained", [1] * len(row["ids"]))  # left out where every token is
            for at in (len(row["prompt_ids"]) + i for i, trained in enumerate(every) if trained):
                credit[tree, tuple(ids[: at + 1])] += row["advantage"]
        for (_, ids), value in credit.items():
            # a place and a line are a token each; two line breaks stand on both sides of later places
            place = SIGNS.index(words.decode(ids[0] if len(ids) == FIRST else ids[-4]))
            yield place // PLACES, words.decode(ids[-1]) == right(place // PLACES, place % PLACES), value


def main() -> None:
    """Print a table: a line for each station, over all runs."""
    made: dict[int, list[tuple[bool, float]]] = defaultdict(list)
    for folder in sys.argv[1:]:
        for station, good, value in choices(Path(folder)):
            made[station].append((good, value))
    every = sum(map(len, made.values()))
    whole = sum(abs(value) for found in made.values() for _, value in found)
    print("| station | choices per 1,000 | right | with credit | share of all credit | points the right way |")
    print("|---|---|---|---|---|---|")
    for station, found in sorted(made.items()):
        size = sum(abs(value) for _, value in found)
        toward = sum(value if good else -value for good, value in found)
        cells = (
            f"{1000 * len(found) / every:.0f}",
            f"{sum(good for good, _ in found) / len(found):.2f}",
            f"{sum(value != 0 for _, value in found) / len(found):.2f}",
            f"{size / whole:.2f}",
            f"{toward / size:+.2f}",
        )
        print(f"| {station + 1} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()

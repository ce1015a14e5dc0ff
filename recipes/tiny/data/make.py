"""Write the data of the small recipes next to this file; running it again gives the same bytes.

    python recipes/tiny/data/make.py

- lake.jsonl: observations of gymnasium's frozen lake of 8 x 8 and a move: a best one with probability 0.8, else random.

To write the folder search/, run this command inside it:

    python ../../../../benchmarks/learning/multihop/make.py ../../../tree_grpo/data 20 1200 0.85
"""  # noqa: INP001

import json
import random
from collections import deque
from pathlib import Path

LAKE = ("SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG")
MOVES = {"l": (0, -1), "d": (1, 0), "r": (0, 1), "u": (-1, 0)}
SKILL = 0.8
SHOWN = 16


def distances() -> dict[tuple[int, int], int]:
    """Return the number of moves to the goal from each place on the ice, around the holes."""
    found, waiting = {(7, 7): 0}, deque([(7, 7)])
    while waiting:
        row, column = waiting.popleft()
        for down, right in MOVES.values():
            there = row - down, column - right
            if there not in found and all(0 <= at < 8 for at in there) and LAKE[there[0]][there[1]] in "SF":
                found[there] = found[row, column] + 1
                waiting.append(there)
    return found


def lake(draw: random.Random) -> list[dict[str, str]]:
    """Return rows in which every place occurs equally often."""
    far = distances()
    rows = []
    for (row, column), left in sorted(far.items()):
        good = [move for move, (down, right) in MOVES.items() if far.get((row + down, column + right), 99) < left]
        for _ in range(SHOWN if left else 0):
            move = draw.choice(good if draw.random() < SKILL else list(MOVES))
            rows.append({"prompt": f"{8 * row + column}>", "completion": move})
    draw.shuffle(rows)
    return rows


def write(name: str, rows: list[dict[str, str]]) -> None:
    """Write rows as JSON lines."""
    path = Path(__file__).parent / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    write("lake.jsonl", lake(random.Random(0)))  # noqa: S311 - data, no secret

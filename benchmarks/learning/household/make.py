"""Write demonstrations for the warm start, many moves random, so that RL has much left to learn."""

import json
import random
import sys
from pathlib import Path

from house import MOVES, House, neighbour

SKILL = 0.6


def best(house):
    """Return the moves on a shortest path."""
    target = house.goal if house.has else house.thing
    if house.room == target:
        return ["p" if house.has else "t"]
    here = distance(house.room, target)
    return [m for m in MOVES if distance(neighbour(house.room, m), target) < here]


def distance(one, other):
    """Return the number of moves between two rooms."""
    return abs(one % 4 - other % 4) + abs(one // 4 - other // 4)


def rows(count, seed):
    """Yield single turns: the observation, and a move that is a best one with probability SKILL, else random."""
    draw = random.Random(seed)  # noqa: S311
    tasks = House.tasks("train", None, seed)
    made = 0
    while made < count:
        house = House()
        house.reset(draw.choice(tasks), 0)
        for _ in range(20):
            move = draw.choice(best(house)) if draw.random() < SKILL else draw.choice([*MOVES, "t", "p"])
            yield {"prompt": house.choose() + ">", "completion": move}
            made += 1
            if house.step(move).get("terminated"):
                break


if __name__ == "__main__":
    Path("demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(int(sys.argv[1]), 0)))

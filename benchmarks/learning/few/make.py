"""Write the data: 24 pictures for training, the other 72 held out, demonstrations of a beginner of all of them.

python make.py PICTURES
"""

import json
import random
import sys
from pathlib import Path

from few import beginner, pictures, right

SKILL = 0.5


def write(name, rows):
    """Write rows as JSON lines."""
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    draw = random.Random(0)  # noqa: S311
    every = [{"prompt": f"{c}{b}{t}>", "diagnosis": right(c, b)} for c, b, t in pictures()]
    few = int(sys.argv[1])
    write("train.jsonl", every[:few])
    write("held_out.jsonl", every[few:])
    shown = []
    for _ in range(64):
        for colour, border, texture in pictures():
            answer = right(colour, border) if draw.random() < SKILL else beginner(colour)
            shown.append({"prompt": f"{colour}{border}{texture}>", "completion": answer})
    write("demonstrations.jsonl", shown)

"""Write words of four letters to spell backward, as the task `objectives` does, with half of the demonstrations wrong.

    python make.py 0 OBJECTIVES

The first argument seeds the words, OBJECTIVES is the folder of that task.
"""

import importlib.util
import json
import random
import sys
from pathlib import Path

WRONG = 0.5


def main():
    """Write the files into the working directory."""
    found = importlib.util.spec_from_file_location("words", Path(sys.argv[2]) / "make.py")
    task = importlib.util.module_from_spec(found)
    found.loader.exec_module(task)
    task.main()
    draw = random.Random(1)  # noqa: S311 - data
    rows = [json.loads(line) for line in Path("demonstrations.jsonl").read_text().splitlines()]
    for row in rows:
        if draw.random() < WRONG:
            row["completion"] = task.wrong(draw, row["completion"][::-1])
    task.write("demonstrations.jsonl", rows)


if __name__ == "__main__":
    main()

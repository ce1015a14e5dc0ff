"""Write demonstrations for the warm start: how often the line is right depends on the station.

python make.py late|early ROWS
"""

import json
import random
import sys
from pathlib import Path

from route import PLACES, mistaken, right, sign

SURE, UNSURE = 0.95, 0.45
SKILLS = {"late": (*[SURE] * 3, *[UNSURE] * 3), "early": (*[UNSURE] * 3, *[SURE] * 3)}


def rows(skills, count, draw):
    """Yield single turns of routes through random places; the completion is the line taken."""
    while True:
        prompt = ""
        for station, skill in enumerate(skills):
            place = draw.randrange(PLACES)
            line = (right if draw.random() < skill else mistaken)(station, place)
            prompt += f"{sign(station, place)}>" if station == 0 else f"\n\n{sign(station, place)}\n\n"
            yield {"prompt": prompt, "completion": line}
            count -= 1
            if count == 0:
                return
            prompt += line


if __name__ == "__main__":
    made = rows(SKILLS[sys.argv[1]], int(sys.argv[2]), random.Random(0))  # noqa: S311
    Path("demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))

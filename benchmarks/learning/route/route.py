"""A route of six stations: the right line has to be taken at each; the only reward is 1 at the end if all were right.

The recipes in this folder use it by `use:` with the environment `own`.
"""

import random
import string

STATIONS = 6
PLACES = 12
SIGNS = string.ascii_letters + string.punctuation.replace(">", "")
LINES = "01234567"


def sign(station, place):
    """Return the character that names a place; every station has places of its own."""
    return SIGNS[station * PLACES + place]


def right(station, place):
    """Return the line to take: a fixed table, which the policy has to learn."""
    return random.Random(f"{station} {place}").choice(LINES)  # noqa: S311


def mistaken(station, place):
    """Return the line that a demonstration takes if it takes a wrong one: always the same at a place."""
    return random.Random(f"wrong {station} {place}").choice(LINES.replace(right(station, place), ""))  # noqa: S311


class Route:
    """Six stations, each with twelve places; a wrong line leads to another place, and no observation tells that."""

    @staticmethod
    def tasks(split, size, seed):
        """Draw the places of right routes; there are 12 ** 6, so that nearly all held-out routes are new."""
        draw = random.Random(f"{split} {seed}")  # noqa: S311
        return [{"places": draw.choices(range(PLACES), k=STATIONS)} for _ in range(size)]

    def reset(self, task, seed):  # noqa: ARG002
        """Start at the first place."""
        self.places, self.station, self.lost = task["places"], 0, False
        self.place = self.places[0]
        return {"observation": sign(0, self.place)}

    def step(self, action):
        """Take a line; at the last station the episode ends."""
        wanted = LINES.index(right(self.station, self.place))
        off = (LINES.index(action) - wanted) % len(LINES) if action in {*LINES} else 1
        self.lost = self.lost or off != 0
        self.station += 1
        if self.station == STATIONS:
            return {"observation": "", "reward": float(not self.lost), "terminated": True}
        self.place = (self.places[self.station] + off) % PLACES
        return {"observation": sign(self.station, self.place), "valid": action in {*LINES}}

"""A house of sixteen rooms: find a thing and carry it to its room; only that is rewarded.

The recipes in this folder use it by `use:` with the environment `own`.
"""

import random

SIDE = 4
MOVES = {"n": -SIDE, "s": SIDE, "w": -1, "e": 1}


def name(room):
    """Return row and column of a room."""
    return f"{room // SIDE}{room % SIDE}"


def neighbour(room, move):
    """Return the room behind a door, or the same room if there is no door."""
    column = room % SIDE
    if (move == "w" and column == 0) or (move == "e" and column == SIDE - 1):
        return room
    there = room + MOVES[move]
    return there if 0 <= there < SIDE * SIDE else room


class House:
    """Sixteen rooms in a square, a thing to take and a room to put it in."""

    @staticmethod
    def tasks(split, size, seed):
        """Draw start room, room of the thing and goal; held-out triples are never drawn for training."""
        every = [(s, t, g) for s in range(16) for t in range(16) for g in range(16) if len({s, t, g}) == 3]
        random.Random(0).shuffle(every)  # noqa: S311
        held_out, train = every[:400], every[400:]
        chosen = list(held_out if split == "held_out" else train)
        random.Random(seed).shuffle(chosen)  # noqa: S311
        return [{"start": s, "thing": t, "goal": g} for s, t, g in chosen[:size]]

    def reset(self, task, seed):  # noqa: ARG002
        """Start in the start room with empty hands."""
        self.room, self.thing, self.goal, self.has = task["start"], task["thing"], task["goal"], False
        return {"observation": self.choose()}

    def choose(self):
        """Return row and column of the room, of the thing (`++` if carried) and of the goal."""
        return name(self.room) + ("++" if self.has else name(self.thing)) + name(self.goal)

    def step(self, action):
        """Walk, take or put; putting the thing down in the goal room ends the episode."""
        if action in MOVES:
            self.room = neighbour(self.room, action)
        elif action == "t" and self.room == self.thing:
            self.has = True
        elif action == "p" and self.has and self.room == self.goal:
            return {"observation": self.choose(), "reward": 1.0, "terminated": True}
        return {"observation": self.choose(), "valid": action in {*MOVES, "t", "p"}}

"""Diagnoses from three signs, few of which are given for training, and a reward that is wrong one time in five.

The recipes in this folder use the reward by `use:`.
"""

import itertools
import random

COLOURS, BORDERS, TEXTURES = "abcdef", "klmn", "wxyz"
NAMES = "ABCDEFGH"
FLIPPED = 0.2


def right(colour, border):
    """Return the diagnosis: a fixed table of colour and border; the texture says nothing."""
    return random.Random(f"{colour} {border}").choice(NAMES)  # noqa: S311


def beginner(colour):
    """Return what a beginner answers, who looks at the colour alone."""
    return right(colour, BORDERS[0])


def pictures():
    """Return every combination of signs, in an order that mixes them."""
    every = list(itertools.product(COLOURS, BORDERS, TEXTURES))
    random.Random(0).shuffle(every)  # noqa: S311
    return every


def noisy(prompts, completions, diagnosis, **_):
    """Return 1 for the right diagnosis and 0 for another; each is exchanged for the other with probability FLIPPED.

    Chance follows from the texts of the batch, so that a run is the same each time and runs differ.
    """
    chance = random.Random(f"{prompts} {completions}")  # noqa: S311
    return [
        float((text.strip() == wanted) != (chance.random() < FLIPPED))
        for text, wanted in zip(completions, diagnosis, strict=True)
    ]

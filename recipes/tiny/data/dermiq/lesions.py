"""Draw synthetic skin lesions: images generated from four labelled factors, without any photograph.

The factors are those of the ABCD rule for pigmented spots: asymmetry, border, colour and diameter (Friedman, Rigel and
Kopf, 1985, doi:10.3322/canjclin.35.3.130).  A diagnosis here is a name for its usual factors.  The
images give a small model something to recognise; they teach nothing about skin.
"""  # noqa: INP001

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace

import numpy as np  # noqa: TID253 - a script

SIZE = 32
USUAL = 0.93
"""Probability that a lesion has the usual value of a factor."""
VALUES = {
    "shape": ("even", "uneven"),
    "border": ("smooth", "ragged"),
    "colour": ("brown", "tan", "pink", "red", "mixed"),
    "size": ("small", "large"),
}
INKS = {"brown": (118, 72, 46), "tan": (178, 128, 84), "pink": (226, 148, 142), "red": (186, 40, 44)}
SPOTS = ((48, 34, 32), (150, 50, 48), (96, 100, 118))
"""Colours of a mixed lesion in addition to brown: black, red and blue-grey."""


@dataclass(frozen=True)
class Lesion:
    """The visible factors of a lesion."""

    shape: str
    border: str
    colour: str
    size: str


DIAGNOSES = {
    "mole": Lesion("even", "smooth", "brown", "small"),
    "atypical mole": Lesion("uneven", "ragged", "brown", "large"),
    "melanoma": Lesion("uneven", "ragged", "mixed", "large"),
    "seborrheic keratosis": Lesion("even", "smooth", "brown", "large"),
    "solar lentigo": Lesion("even", "ragged", "tan", "large"),
    "basal cell carcinoma": Lesion("even", "smooth", "pink", "large"),
    "cherry angioma": Lesion("even", "smooth", "red", "small"),
    "actinic keratosis": Lesion("uneven", "ragged", "pink", "small"),
}


def drawn(diagnosis: str, draw: random.Random) -> Lesion:
    """Draw a lesion of a diagnosis: each factor has its usual value with probability USUAL, else another one."""
    lesion = DIAGNOSES[diagnosis]
    for factor in fields(Lesion):
        if draw.random() >= USUAL:
            usual = getattr(lesion, factor.name)
            lesion = replace(lesion, **{factor.name: draw.choice([v for v in VALUES[factor.name] if v != usual])})
    return lesion


def picture(lesion: Lesion, draw: random.Random) -> np.ndarray:
    """Draw a lesion on skin: [32, 32, 3], uint8, colours in steps of 8.

    The outline is a circle with a radius that varies with the angle: slowly if the shape is uneven, so that it is long
    and thicker on one side, and fast if the border is ragged. A smooth border has a dark rim.
    """
    middle = (SIZE - 1) / 2
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    down, right = y - middle - draw.uniform(-1.5, 1.5), x - middle - draw.uniform(-1.5, 1.5)
    angle, away = np.arctan2(down, right), np.hypot(down, right)
    radius = draw.uniform(5.5, 6.5) if lesion.size == "small" else draw.uniform(9.5, 11.0)
    swing = draw.uniform(0.3, 0.4) if lesion.shape == "uneven" else draw.uniform(0.0, 0.04)
    fray = draw.uniform(0.24, 0.3) if lesion.border == "ragged" else draw.uniform(0.0, 0.02)
    turn = draw.uniform(0, 2 * np.pi)
    edge = 1 + swing * (np.cos(2 * (angle - turn)) + 0.5 * np.cos(angle - turn))
    edge += fray * np.sin(draw.choice((7, 9)) * angle + draw.uniform(0, 2 * np.pi))
    inside = np.clip(radius * edge - away + 0.5, 0, 1)[..., None]
    tone = draw.uniform(-28, 16)
    skin = np.array((228, 190, 168)) + tone
    ink = np.full((SIZE, SIZE, 3), INKS["brown" if lesion.colour == "mixed" else lesion.colour], float)
    ink += 0.4 * tone + draw.uniform(-10, 10)
    if lesion.colour == "mixed":
        for spot in draw.sample(SPOTS, 2):
            turn, far = draw.uniform(0, 2 * np.pi), 0.5 * radius
            near = np.hypot(down - far * np.sin(turn), right - far * np.cos(turn)) < 0.5 * radius
            ink[near] = spot
    seen = skin * (1 - inside) + ink * inside
    if lesion.border == "smooth":
        seen[np.abs(radius * edge - away) < 0.8] *= 0.7
    return (np.clip(np.round(seen / 8) * 8, 0, 255)).astype(np.uint8)

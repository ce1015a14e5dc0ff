"""One image on its way from a data file to the model: what every pass over a row shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

Inputs = Mapping[str, Tensor]
"""What an image encoder takes of one image, by the names of its arguments."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image, as the policy's processor gives it; made once, then shared by reference.

    Example: ``Picture("9f2c…", "images/mole.png", {"pixel_values": pixels}, (4, 5, 5, 6))``.
    """

    digest: str
    """Hexadecimal hash of what the model sees, processed pixels and grid: the same digest is the same image."""
    path: str
    """As the data names it."""
    inputs: Inputs
    """Keyword arguments of the model's image encoder for this image alone."""
    tokens: tuple[int, ...]
    """Ids that stand for it in a prompt: expanded, the separators of its family among them."""


def places(ids: Sequence[int], images: Sequence[Picture]) -> list[tuple[int, int]]:
    """Return the token ranges of the images of a row, in order: first token, and the one after the last.

    >>> seen = Picture("9f", "a.png", {}, (7, 8))
    >>> places((1, 7, 8, 2, 7, 8, 3), [seen, seen])
    [(1, 3), (4, 6)]

    Raises:
        ValueError: an image is not there.
    """
    starts = []
    row = list(ids)
    at = 0
    for image in images:
        wanted = list(image.tokens)
        at = row.index(wanted[0], at)
        while row[at : at + len(wanted)] != wanted:
            at = row.index(wanted[0], at + 1)
        starts.append((at, at + len(wanted)))
        at += len(wanted)
    return starts

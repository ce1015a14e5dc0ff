"""One image on its way from a data file to the model: what every pass over a row shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One image, as the policy's processor gives it; made once, then shared by reference.

    Example: ``Picture("9f2c…", "images/mole.png", {"pixel_values": pixels}, (4, 5, 5, 6))``.
    """

    digest: str
    """Hexadecimal hash of what the model sees, processed pixels and grid: the same digest is the same image."""
    path: str
    """As the data names it."""
    inputs: Mapping[str, Tensor]
    """Keyword arguments of the model's image encoder for this image alone."""
    tokens: tuple[int, ...]
    """Ids that stand for it in a prompt: expanded, the separators of its family among them."""

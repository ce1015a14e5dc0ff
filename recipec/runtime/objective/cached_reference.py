"""Reference log-probabilities of fixed rows, computed once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.images.picture import Picture
from recipec.runtime.protocols import Part

Score = Callable[..., dict[str, Tensor]]


class CachedReference(Part):
    """Stands in for a frozen reference where data and reference stay the same.

    The policy itself, as it enters the stage and before its first update, fills the cache: no second model is kept.
    A continued run fills it again from the same weights, so it is in no checkpoint.
    """

    def __init__(self, score: Score) -> None:
        """Begin empty; ``score`` makes ``ref_logprob_RT``."""
        self.score = score
        self.found: dict[bytes, Tensor] = {}

    def fill(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> None:
        """Score rows and keep their log-probabilities; ``images`` are ``pixels_I`` and ``image_row_I``, or nothing."""
        value_RT = self.score(tokens_RT, attend_RT, trained_RT, **images)["ref_logprob_RT"]
        for row, key in enumerate(_keys(tokens_RT, attend_RT, trained_RT, **images)):
            self.found[key] = value_RT[row, : int(attend_RT[row].sum())].cpu().clone()

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> dict[str, Tensor]:
        """Look every row up."""
        value_RT = torch.zeros(tokens_RT.shape, dtype=torch.float32)
        for row, key in enumerate(_keys(tokens_RT, attend_RT, trained_RT, **images)):
            found_T = self.found[key]
            value_RT[row, : len(found_T)] = found_T
        return {"ref_logprob_RT": value_RT}


def _keys(
    tokens_RT: Tensor,
    attend_RT: Tensor,
    trained_RT: Tensor,
    pixels_I: Sequence[Picture] = (),
    image_row_I: Tensor | None = None,
) -> list[bytes]:
    seen = [b""] * len(tokens_RT)  # the same tokens may stand for another image
    for picture, row in zip(pixels_I, () if image_row_I is None else image_row_I.tolist(), strict=True):
        seen[row] += picture.digest.encode() + b"|"
    keys = []
    for tokens_T, trained_T, length, images in zip(
        tokens_RT, trained_RT, attend_RT.sum(-1).tolist(), seen, strict=True
    ):
        parts = (tokens_T[:length].cpu().numpy().tobytes(), trained_T[:length].cpu().numpy().tobytes(), images)
        keys.append(hashlib.sha256(b"|".join(parts)).digest())
    return keys

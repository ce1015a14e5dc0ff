"""Ids of image tokens: beyond the vocabulary, so that an id names a piece of an image.

Code that compares ids, such as prefix trees and KV caches, thereby compares images as well; and whoever has an id
can look up its features and its position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recipec.diagnostics.errors import vision as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.images.picture import Picture
from recipec.runtime.model.vision_families import turned

Ints = NDArray[np.int64]
Shape = tuple[int, int, int]
_MOST = (1 << 31) - 1  # prefix trees count ids in 32 bits


class Registry:
    """Gives every image of a run a range of ids, in the order in which images are first seen.

    Example: with a vocabulary of 100 the first image has ids from 100, one for each of its tokens.
    """

    def __init__(self, vocabulary: int, shown: int) -> None:
        """``shown`` is the id that stands for a piece of any image."""
        self.vocabulary, self.shown = vocabulary, shown
        self.first: dict[str, int] = {}
        self.end = vocabulary
        self._begins: list[int] = []
        self._shape: list[int] = []  # by image: where the table of its shape begins
        self._tables: dict[Shape, int] = {}
        self._turns = np.zeros((3, 0), dtype=np.int64)
        self._advance = np.zeros(0, dtype=np.int64)

    def add(self, picture: Picture, shape: Shape | None = None) -> int:
        """Return the first id of an image; ``shape`` is the grid of its tokens where positions turn."""
        if picture.digest not in self.first:
            count = picture.tokens.count(self.shown)
            assert self.end + count <= _MOST, "more image tokens than 32 bits count"
            self.first[picture.digest] = self.end
            self._begins.append(self.end)
            self._shape.append(0 if shape is None else self._table(shape))
            self.end += count
        return self.first[picture.digest]

    def _table(self, shape: Shape) -> int:
        if shape not in self._tables:
            self._tables[shape] = len(self._advance)
            turns, after = turned(shape)
            self._turns = np.concatenate([self._turns, turns], 1)
            # inside an image nothing counts on: text does, behind its last token
            self._advance = np.concatenate([self._advance, [0] * (turns.shape[1] - 1), [after]])
        return self._tables[shape]

    def place(self, tokens_T: Ints, sampled_T: NDArray[np.bool_], pictures: Sequence[Picture], what: str) -> Ints:
        """Return a row's ids with those of its images in place of the tokens that stand for them.

        An image token that the policy wrote itself is text: no image belongs to it.

        Raises:
            RecipeError: RC851, the row has no place for an image, or a place without one.
        """
        made_T = tokens_T.copy()
        at = 0
        for picture in pictures:
            own = np.array(picture.tokens, dtype=np.int64)
            start = next((i for i in _starts(tokens_T, own, at)), None)
            if start is None:
                raise RecipeError(errors.miscounted(len(pictures), _places(tokens_T == self.shown), what))
            at = start + len(own)
            begin = self.first[picture.digest]
            shown = np.flatnonzero(own == self.shown)
            made_T[start + shown] = np.arange(begin, begin + len(shown))
        left_T = (made_T == self.shown) & ~sampled_T
        if (left_T[1:] & left_T[:-1]).any():
            raise RecipeError(errors.miscounted(len(pictures), _places(tokens_T == self.shown), what))
        return made_T

    def rope_positions(self, ids_RT: Ints, valid_RT: NDArray[np.bool_] | None = None) -> tuple[Ints, Ints]:
        """Return positions [3, R, T] of tokens counted from each row's beginning, and where each row goes on.

        Columns that are not ``valid_RT`` are no tokens.
        """
        seen_RT = ids_RT >= self.vocabulary
        advance_RT = np.ones_like(ids_RT) if valid_RT is None else valid_RT.astype(np.int64)
        turns_3RT = np.zeros((3, *ids_RT.shape), dtype=np.int64)
        if seen_RT.any():
            begins = np.array(self._begins, dtype=np.int64)
            image = np.searchsorted(begins, ids_RT[seen_RT], side="right") - 1
            slot = np.array(self._shape, dtype=np.int64)[image] + ids_RT[seen_RT] - begins[image]
            advance_RT[seen_RT] = self._advance[slot]
            turns_3RT[:, seen_RT] = self._turns[:, slot]
        ends_RT = advance_RT.cumsum(1)
        return (ends_RT - advance_RT) + turns_3RT, ends_RT[:, -1]


def _starts(tokens_T: Ints, own: Ints, at: int) -> list[int]:
    """Places from ``at`` on where ``own`` stands."""
    begins = np.flatnonzero(tokens_T[at : len(tokens_T) - len(own) + 1] == own[0]) + at
    return [int(i) for i in begins if (tokens_T[i : i + len(own)] == own).all()][:1]


def _places(shown_T: NDArray[np.bool_]) -> int:
    """Runs of image tokens."""
    return int(shown_T[:1].sum() + (shown_T[1:] & ~shown_T[:-1]).sum())

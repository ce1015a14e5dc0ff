"""Protocols of what a policy that reads images has besides those of :mod:`recipec.runtime.protocols`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recipec.runtime.batch import Batch
    from recipec.runtime.images.picture import Picture


class ImageStore(ABC):
    """The images of a stage, each content decoded and processed once."""

    @abstractmethod
    def keep(self, data: bytes) -> str:
        """Keep an image that a data file holds itself, and return the name that stands for it."""

    @abstractmethod
    def picture(self, folder: Path, name: str, shown: str, file: str, row: int) -> Picture:
        """Return the image that a data row names; raise ``RecipeError`` RC862 with file and row if it cannot."""

    @abstractmethod
    def recorded_picture(self, root: Path, path: str, digest: str, file: str, row: int) -> Picture:
        """Return the image of a recorded rollout, which must not have changed."""

    @abstractmethod
    def keep_small(self, folder: Path, pictures: Sequence[Picture]) -> None:
        """Write thumbnails for the report."""


class ImageEncoder(ABC):
    """The part of a vision-language model that reads images."""

    @abstractmethod
    def tag_image_tokens(self, ids: tuple[int, ...], images: tuple[Picture, ...]) -> tuple[int, ...]:
        """Return ids in which each image token names its image."""

    @abstractmethod
    def tag_batch(self, batch: Batch) -> Batch:
        """Return a batch in which image tokens name their images."""

    @abstractmethod
    def sample_pictures(self) -> Sequence[Picture]:
        """Return two different images for comparisons that have no data."""

    @abstractmethod
    def encoding_images(self, images: Iterator[Picture]) -> AbstractContextManager[None]:
        """Encode images once for everything that is computed inside."""

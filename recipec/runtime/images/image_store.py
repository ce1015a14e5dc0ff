"""The pictures of a run: read from files that data names, decoded within bounds, shared by everything that shows them.

Rows are data from elsewhere.  Before a pixel is unpacked the header must be that of a known format, within bounds, and
the file must be below the folder of the data; decoding errors of a broken file become diagnostics.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from recipec.diagnostics.errors import data as data_errors, images as errors
from recipec.diagnostics.model import RecipeError, file_span
from recipec.host.artifacts import write_atomic
from recipec.runtime.images.cache import Cache
from recipec.runtime.images.embedded import EMBEDDED, keep_image
from recipec.runtime.images.files import ImageError, read_within
from recipec.runtime.images.picture import Picture

if TYPE_CHECKING:
    from PIL.Image import Image as Decoded
    from torch import Tensor

    from recipec.runtime.batch import Task

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
MOST_PIXELS = 64_000_000
SMALL = 160
"""Longest side of a picture in a report, in pixels."""
_HEXADECIMAL = re.compile(r"[0-9a-f]{8,128}")


class VisionPolicy(Protocol):
    """What an album asks of a policy."""

    def picture(self, image: Decoded, path: str) -> Picture:
        """Process an image as the policy sees it."""


class ImageStore:
    """Every picture of a stage, each content processed once.

    Example: ``ImageStore(policy).picture(Path("data"), "images/mole.png", "data/images/mole.png", "data/train.jsonl",
    3)``.
    """

    def __init__(self, policy: VisionPolicy, embedded: Path | None = None) -> None:
        """Begin empty; images that data files hold themselves are kept in the folder ``embedded``."""
        self.policy = policy
        self._embedded = embedded
        self._by_content: dict[str, Picture] = {}
        self._by_path: dict[tuple[Path, str], Picture] = {}
        self._cache = Cache()
        self._small: dict[str, bytes] = {}

    def keep(self, data: bytes) -> str:
        """Keep an image that a data file holds itself, and return the name that stands for it.

        Raises:
            RecipeError: RC761, the cache cannot be written.
        """
        assert self._embedded is not None, "a store of files alone"
        return keep_image(self._embedded, data)

    def picture(self, folder: Path, name: str, shown: str, file: str, row: int) -> Picture:
        """Return the image that a row names, ``shown`` in messages and recorded with what is sampled.

        Raises:
            RecipeError: RC862, with file and row; RC716, Pillow is not installed.
        """
        if self._embedded is not None and name.startswith(EMBEDDED):
            folder, name, shown = self._embedded, name.removeprefix(EMBEDDED), name
        picture = self._by_path.get((folder, name))
        if picture is None:
            picture = self._by_path[folder, name] = self._processed(folder, name, shown, file, row)
        return picture

    def recorded_picture(self, root: Path, path: str, digest: str, file: str, row: int) -> Picture:
        """Return the image of a recorded row, which must be what was seen then.

        Raises:
            RecipeError: RC862, RC869.
        """
        image_file = root / path
        picture = self.picture(image_file.parent, image_file.name, path, file, row)
        if picture.digest != digest:
            raise RecipeError(errors.image_changed(file, row, path))
        return picture

    def _processed(self, folder: Path, name: str, shown: str, file: str, row: int) -> Picture:
        try:
            data = read_within(folder, name)
            content = hashlib.sha256(data).hexdigest()
            if folder == self._embedded:
                _unchanged(folder / name, content)
            known = self._by_content.get(content)
            if known is None:
                image = decode(data)
                picture = self._made(image, shown, file, row)
                self._small.setdefault(picture.digest, _small(image))
                again = partial(self._inputs, folder, name, picture, file, row)
                known = replace(picture, inputs=self._cache.put(picture.digest, picture.inputs, again))
                self._by_content[content] = known
        except ImageError as error:
            raise error.refused(file, row, name) from None
        return known if known.path == shown else replace(known, path=shown)

    def _made(self, image: Decoded, shown: str, file: str, row: int) -> Picture:
        """Process an image for the policy; what it refuses has a file and a row."""
        try:
            picture: Picture = self.policy.picture(image, shown)
        except RecipeError as error:
            here = file_span(file, row)
            raise RecipeError(
                *(replace(picture, spans=(*picture.spans, *here)) for picture in error.diagnostics)
            ) from None
        return picture

    def _inputs(self, folder: Path, name: str, before: Picture, file: str, row: int) -> Mapping[str, Tensor]:
        """Process an image once more, which must be what it was."""
        try:
            picture = self._made(decode(read_within(folder, name)), before.path, file, row)
        except ImageError as error:
            raise error.refused(file, row, name) from None
        if picture.digest != before.digest:
            raise RecipeError(errors.image_changed(file, row, name))
        return picture.inputs

    def keep_small(self, folder: Path, pictures: Iterable[Picture]) -> None:
        """Write a thumbnail of each image, once, as ``DIGEST.jpg``, for the report."""
        for picture in pictures:
            path = folder / f"{picture.digest}.jpg"
            small = self._small.get(picture.digest)
            if small is not None and _HEXADECIMAL.fullmatch(picture.digest) and not path.exists():
                write_atomic(path, small)


def show(store: ImageStore | None, rows: Path, tasks: Iterable[Task]) -> None:
    """Write thumbnails of the images of tasks next to the file of their samples, if the policy reads images."""
    if store is not None:
        store.keep_small(rows.parent / "images", (image for task in tasks for image in task.images))


def is_vision_model(policy: Any) -> bool:
    """Whether a policy reads images."""
    return policy.image_encoder is not None


def decode(data: bytes) -> Decoded:
    """Unpack an image: one frame, upright by its EXIF orientation, in RGB; what is transparent becomes white.

    Raises:
        ImageError: it is too large, or broken, or no image.
        RecipeError: RC716, Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError  # noqa: PLC0415 - only images need it
    except ImportError:
        raise RecipeError(data_errors.package_missing("pillow", "vision", "reading images")) from None
    if not data:
        raise ImageError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # of metadata that is damaged; pixels raise
            image: Decoded = Image.open(io.BytesIO(data), formats=FORMATS)
            _bound(image)
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"it has more than {MOST_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise ImageError(f"its format is not one of {', '.join(FORMATS)}") from None
    except Exception as error:  # noqa: BLE001 - decoders of broken files raise whatever they meet
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise ImageError(f"it cannot be decoded: {problem}") from None


def _unchanged(copy: Path, content: str) -> None:
    """Refuse the copy of an embedded image that was changed: its name is the hash of its bytes."""
    if copy.name != content:
        raise ImageError(f"its copy was changed: delete {copy}")


def _bound(image: Decoded) -> None:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ImageError(f"it has {width} x {height} pixels; at most {MOST_PIXELS:,} are decoded")
    # the further frames of a camera's JPEG are its preview and depth
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise ImageError("it has several frames")


def _rgb(image: Decoded) -> Decoded:
    from recipec.runtime.images.fit import opaque  # noqa: PLC0415 - Pillow is there by now

    if image.mode in {"I", "F"}:
        raise ImageError(f"its pixels are 32-bit numbers (mode {image.mode}); give 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 257).convert("L")
    return opaque(image)


def _small(image: Decoded) -> bytes:
    small = image.copy()
    small.thumbnail((SMALL, SMALL))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()

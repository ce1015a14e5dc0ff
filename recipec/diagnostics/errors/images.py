"""Images of a dataset's rows: RC860 to RC869."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.model import Finding, diagnostic, file_span
from recipec.diagnostics.phrases import did_you_mean, listed


@diagnostic("RC860", "no-images")
def no_images(path: str, column: str, have: Iterable[str]) -> Finding:
    """No row of a data file has an image, but the policy is a `vision_lm`.

    Why it matters: the policy would be trained on questions about images that it never saw.
    Example: a file that calls its images `photo`, read without `columns: {images: photo}`.
    How to fix: name the column by `data.columns.images`, or set it to the empty text if the rows are text only.
    """
    names = list(have)
    remedy = "name the column by `data.columns.images`, or set it to the empty text if the rows are text only"
    return Finding(
        f"{path}: no row has an image under `{column}`, but the policy is `vision_lm`",
        file_span(path),
        help=f"{did_you_mean(column, names)} the rows have {listed(names)}: {remedy}".strip(),
    )


@diagnostic("RC861", "images-unseen")
def images_unseen(path: str, row: int, column: str, who: str) -> Finding:
    """A row has images, but the policy reads text only, or an environment writes the prompts.

    Why it matters: answers about an image would be trained or scored without the image.
    Example: `{"prompt": "What is this?", "images": ["mole.png"]}` with `policy: {type: causal_lm}`.
    How to fix: use `policy: {type: vision_lm}` without an environment, or ignore the images with `columns: {images:
    ""}`.
    """
    return Finding(f"{path}, row {row}: `{column}` has images, but {who}", file_span(path, row))


@diagnostic("RC862", "bad-image")
def bad_image(path: str, row: int, name: str, problem: str) -> Finding:
    """An image of a row does not exist, cannot be decoded, is too large, or is outside the folder of its data file.

    What it checks: names are relative paths with `/`, without `..` and without symbolic links; nothing is fetched or
    decoded from a URL. A file, or an image inside a parquet file, is a complete PNG, JPEG, WebP, BMP or GIF of at most
    64 MiB, 64 million pixels (read from its header, before anything is unpacked) and one frame.
    Why it matters: rows are data from elsewhere. They must not make a run read other files or fill its memory, and a
    missing or incomplete image would silently change the data set.
    Example: `"images": ["moel.png"]`, `["../../etc/passwd"]`, a download that broke off, a PNG of 60,000 x 60,000
    pixels.
    How to fix: put an intact image below the folder of the data file and name it relative to that folder, or remove the
    row.
    """
    return Finding(f"{path}, row {row}: image {_quoted(name)}: {problem}", file_span(path, row))


@diagnostic("RC866", "image-count")
def image_count(path: str, row: int, column: str, places: int, images: int) -> Finding:
    """A conversation has another number of `{"type": "image"}` parts than its row has images.

    What it checks: the parts against the images. A conversation without any such part gets its images before the text
    of the first user message.
    Why it matters: from the first missing part on, every image would stand for another.
    Example: two parts `{"type": "image"}`, and `"images": ["a.png"]`.
    How to fix: write one `{"type": "image"}` for each image, in the same order, or none at all.
    """
    where = f"its messages have places for {places}" if places else "there is no user message to put them in"
    message = f"{path}, row {row}: `{column}` has {images} image{'s' * (images != 1)}, but {where}"
    return Finding(message, file_span(path, row))


@diagnostic("RC867", "image-column")
def image_column(path: str, row: int, column: str, problem: str) -> Finding:
    """The image column of a row has something other than images or null, or a row has both `images` and `image`.

    Why it matters: only a path, or bytes in a parquet file, are an image, and one of two columns would be ignored.
    Example: `"images": 3`, `"images": [null]`, or the bytes of an image as text in a JSONL file.
    How to fix: give a path or a list of paths in one column, as in `"images": ["a.png"]`; images may be bytes in
    parquet files only.
    """
    return Finding(f"{path}, row {row}: `{column}` {problem}", file_span(path, row))


@diagnostic("RC868", "image-part")
def image_part(path: str, row: int, where: str, problem: str) -> Finding:
    """A part of a message is neither text nor an image, or is an image in a message of the assistant.

    Why it matters: the part would silently be left out.
    Example: `{"type": "image_url", "image_url": {"url": "https://…"}}`, or an image in an answer.
    How to fix: write `{"type": "image"}` and name the file in the column `images`.
    """
    return Finding(f"{path}, row {row}: `{where}` {problem}", file_span(path, row))


@diagnostic("RC869", "image-changed")
def image_changed(path: str, row: int, name: str) -> Finding:
    """An image differs from what the policy saw when the row was sampled, or when the stage started.

    What it checks: rows of `STAGE.rollouts` record a hash of the processed image. Images that do not fit in memory are
    read again during a stage, with the same check.
    Why it matters: the file or `policy.image` was changed since, so that the answer would be trained with another
    image.
    Example: an image that was replaced during a run; a later stage with another `policy.image.size`.
    How to fix: keep the images and `policy.image` as they were, or sample again.
    """
    return Finding(f"{path}, row {row}: image {_quoted(name)} differs from what the policy saw", file_span(path, row))


def _quoted(name: str) -> str:
    """Quote a name from a row, which may be of any length.

    >>> _quoted("a" * 200)[-4:]
    'aa…`'
    """
    return f"`{name if len(name) <= 100 else f'{name[:100]}…'}`"

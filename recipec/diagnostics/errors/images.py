"""What can go wrong with the images that rows name: RC860 to RC869."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.errors.data import at, nearest
from recipec.diagnostics.model import Finding, diagnostic


def _or(first: str, second: str) -> str:
    return f"{first} {second}" if first else second


@diagnostic("RC860", "no-images")
def no_images(path: str, column: str, have: Iterable[str]) -> Finding:
    """No row has an image, and the policy is one that reads images.

    What it checks: that at least one row of a data file names an image, where the policy is `vision_lm`.
    Why it matters: the policy would be trained on questions about pictures that it never saw.
    Example: a file that calls its pictures `photo`, read without `columns: {images: photo}`.
    Use instead: `columns: {images: NAME}`; or `columns: {images: ""}` where rows are meant to be text alone.
    """
    names = list(have)
    listed = ", ".join(f"`{name}`" for name in names[:12]) or "none"
    return Finding(
        f"{path}: no row has an image under `{column}`, and the policy is `vision_lm`",
        at(path, 0),
        why="it would be trained on questions about pictures that it never saw",
        help=_or(
            nearest(column, names),
            f"the rows have {listed}: name their column by `data.columns.images`, "
            "or set it to the empty text where rows are text alone",
        ),
    )


@diagnostic("RC861", "images-unseen")
def images_unseen(path: str, row: int, column: str, who: str) -> Finding:
    """A row has images, and nobody in its stage would look at them.

    What it checks: rows with images, where the policy reads text alone, or where an environment writes the prompts.
    Why it matters: answers about a picture would be learnt, or scored, without the picture.
    Example: `{"prompt": "What is this?", "images": ["mole.png"]}` with `policy: {type: causal_lm}`.
    Use instead: `policy: {type: vision_lm}`; or `columns: {images: ""}`, which leaves the pictures out knowingly.
    """
    return Finding(
        f"{path}, row {row}: `{column}` holds images, and {who}",
        at(path, row),
        why="answers about a picture would be learnt or scored without the picture",
        help='use `policy: {type: vision_lm}` without an environment, or leave images out by `columns: {images: ""}`',
    )


@diagnostic("RC862", "image-outside")
def image_outside(path: str, row: int, name: str, problem: str) -> Finding:
    """A row names an image that is not a plain path below the folder of its data file.

    What it checks: names are relative paths with `/`, without `..`; neither the file nor a folder on the way is a
    symbolic link; nothing is fetched or decoded from a URL.
    Why it matters: rows are data from elsewhere, and must not make a run read other files or talk to other machines.
    Example: `"images": ["../../etc/passwd"]`, `"https://example.org/mole.png"`, `"data:image/png;base64,…"`.
    Use instead: copy the pictures beside the data file and name them relative to it.
    """
    return Finding(
        f"{path}, row {row}: image {_told(name)} {problem}",
        at(path, row),
        why="rows are data: they may only name files below the folder of their own file",
        help="copy the picture below the folder of the data file, and name it relative to that",
    )


@diagnostic("RC863", "image-missing")
def image_missing(path: str, row: int, name: str, problem: str) -> Finding:
    """A row names an image that is not there or cannot be opened.

    What it checks: every image, when the stage begins: it is a file, and we may read it.
    Why it matters: leaving a picture out in silence changes the data set.
    Example: `"images": ["moel.png"]`.
    Use instead: the path relative to the folder of the data file, or remove the row.
    """
    return Finding(
        f"{path}, row {row}: image {_told(name)}: {problem}",
        at(path, row),
        why="leaving a picture out in silence would change the data set",
        help="give its path relative to the folder of the data file, or remove the row",
    )


@diagnostic("RC864", "image-too-large")
def image_too_large(path: str, row: int, name: str, problem: str) -> Finding:
    """An image has more bytes, pixels or frames than are decoded.

    What it checks: 64 MiB a file, 64 million pixels (asked of the header, before anything is unpacked), one frame.
    Why it matters: a small file may unpack to any size, and take the machine's memory with it.
    Example: a compressed PNG of 60,000 x 60,000 pixels; an animation.
    Use instead: a smaller copy; the frame that is meant.
    """
    return Finding(
        f"{path}, row {row}: image {_told(name)} {problem}",
        at(path, row),
        why="a small file may unpack to any size, and take the machine's memory with it",
        help="give a smaller copy, of one frame",
    )


@diagnostic("RC865", "broken-image")
def broken_image(path: str, row: int, name: str, problem: str) -> Finding:
    """A file that a row names as an image cannot be decoded.

    What it checks: that the file is a whole PNG, JPEG, WebP, BMP or GIF.
    Why it matters: half a picture, or a grey one, would be trained on as if it were the whole.
    Example: a download that broke off; a text file called `mole.png`.
    Use instead: the whole file, or remove the row.
    """
    return Finding(
        f"{path}, row {row}: image {_told(name)} cannot be decoded: {problem}",
        at(path, row),
        why="half a picture, or a grey one, would be trained on as if it were the whole",
        help="give the whole file, or remove the row",
    )


@diagnostic("RC866", "image-count")
def image_count(path: str, row: int, column: str, places: int, images: int) -> Finding:
    """A conversation has places for another number of images than its row has.

    What it checks: the parts `{"type": "image"}` of the messages against the images of the row. Where there is no such
    part at all, images go before the text of the first message of the user.
    Why it matters: from the first place that is missing on, every picture would stand for another.
    Example: two parts `{"type": "image"}`, and `"images": ["a.png"]`.
    Use instead: one part for each image, in the same order.
    """
    where = "there is no message of the user to put them in" if not places else f"its messages have places for {places}"
    return Finding(
        f"{path}, row {row}: `{column}` holds {images} image{'s' * (images != 1)}, and {where}",
        at(path, row),
        why="from the first place that is missing on, every picture would stand for another",
        help='write one `{"type": "image"}` for each image, in order, or none at all',
    )


@diagnostic("RC867", "image-column")
def image_column(path: str, row: int, column: str, problem: str) -> Finding:
    """The column of the images holds something else than paths.

    What it checks: it is a path, a list of paths, or null; and a row has them in `images` or in `image`, not in both.
    Why it matters: what is no path names no picture, and of two columns one would be ignored.
    Example: `"images": 3`, `"images": [null]`, or the bytes of a picture inside a parquet file.
    Use instead: `"images": ["a.png"]`; write embedded pictures to files beside the data.
    """
    return Finding(
        f"{path}, row {row}: `{column}` {problem}",
        at(path, row),
        why="what is no path names no picture, and of two columns one would be ignored",
        help='give a path or a list of paths in one column: `["a.png"]`',
    )


@diagnostic("RC868", "image-part")
def image_part(path: str, row: int, where: str, problem: str) -> Finding:
    """A message has a part that is neither text nor a place for an image, or an image where none can be.

    What it checks: parts are `{"type": "text", "text": …}` and `{"type": "image"}`; the assistant writes text alone.
    Why it matters: what nobody reads would be left out in silence.
    Example: `{"type": "image_url", "image_url": {"url": "https://…"}}`, or a picture in an answer.
    Use instead: `{"type": "image"}`, and the path in the row's column `images`.
    """
    return Finding(
        f"{path}, row {row}: `{where}` {problem}",
        at(path, row),
        why="what nobody reads would be left out in silence",
        help='write `{"type": "image"}` and name the file in the column `images`',
    )


@diagnostic("RC869", "image-changed")
def image_changed(path: str, row: int, name: str) -> Finding:
    """An image is not what the policy saw before: when a recorded row was sampled, or when the stage began.

    What it checks: rows of `STAGE.rollouts` record a hash of what the model saw; the file, processed again, has it.
    Where a data set is larger than what is kept in memory, images are read again during a stage, with the same check.
    Why it matters: an answer would be learnt from another picture, and tokens that stand for it would not fit.
    Example: a picture that was replaced during a run; a later stage with another `policy.image.size`.
    Use instead: the same pictures and the same `policy.image` in both stages; or sample again.
    """
    return Finding(
        f"{path}, row {row}: image {_told(name)} is not what the policy saw before",
        at(path, row),
        why="its file changed since, or `policy.image` differs from that of the stage that sampled",
        help="keep pictures and `policy.image` as they were, or sample again",
    )


def _told(name: str) -> str:
    """Quote a name from a row, which may be of any length.

    >>> _told("a" * 200)[-4:]
    'aa…`'
    """
    shown = name if len(name) <= 100 else f"{name[:100]}…"
    return f"`{shown}`"

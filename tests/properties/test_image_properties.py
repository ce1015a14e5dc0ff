"""Whatever data says of an image: a picture, or one kind of complaint, and never a file from elsewhere."""

import contextlib
import io
import os

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from recipec.runtime.images.files import ImageError, read_within
from recipec.runtime.images.image_store import decode

NAMES = st.lists(st.sampled_from(["..", ".", "a", "inner", "link", "up", "~", "", "\0", "C:", "\\", "é", "x" * 300]))
FORMS = ["PNG", "JPEG", "WEBP", "BMP", "GIF"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of data with links that lead out, beside a secret."""
    root = tmp_path_factory.mktemp("names")
    for folder in (root, root / "data", root / "data" / "inner"):
        folder.mkdir(exist_ok=True)
        (folder / "a").write_bytes(b"secret" if folder == root else b"fine")
    (root / "data" / "up").symlink_to(root)
    (root / "data" / "inner" / "link").symlink_to(root / "a")
    return root / "data"


@given(NAMES.map("/".join) | st.text(max_size=40))
def test_no_name_reads_what_lies_outside(data, name):
    """Of any name either a file below the folder is read, or it is refused; no other error comes out."""
    with contextlib.suppress(ImageError):
        assert read_within(data, name) == b"fine"


def lowest():
    """Return the lowest descriptor that is free."""
    handle = os.open(os.devnull, os.O_RDONLY)
    os.close(handle)
    return handle


def test_nothing_is_left_open(data):
    """Names that are refused half-way leave no file or folder open."""
    before = lowest()
    for name in ("inner", "inner/link", "inner/gone", "up/a", "a/b", "inner/a"):
        with contextlib.suppress(ImageError):
            read_within(data, name)
    assert lowest() == before


def _saved(form):
    stream = io.BytesIO()
    Image.effect_noise((24, 16), 60).convert("RGB").save(stream, form)
    return stream.getvalue()


WHOLE = {form: _saved(form) for form in FORMS}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FORMS), st.lists(st.tuples(st.integers(0, 1 << 12), st.integers(0, 255)), max_size=6),
       st.integers(0, 1 << 12))  # fmt: skip
def test_damaged_files_are_pictures_or_complaints(form, changes, cut):
    """A file with changed bytes, or without its end, decodes to RGB within bounds or is refused as an image."""
    data = bytearray(WHOLE[form])
    for place, value in changes:
        data[place % len(data)] = value
    data = data[: max(1, len(data) - cut)]
    with contextlib.suppress(ImageError):
        image = decode(bytes(data))
        assert image.mode == "RGB"
        assert image.width * image.height <= 64_000_000


@given(st.binary(max_size=200))
def test_any_bytes_are_no_error_of_ours(data):
    """Bytes that are no picture are refused as such."""
    with pytest.raises(ImageError):
        decode(data)

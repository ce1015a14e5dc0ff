"""Pictures on the page about a run: only small JPEGs that the run kept, under their hash."""

import io

from PIL import Image

from recipec.report.page import named_pictures

DIGEST = "0123456789abcdef"


def kept(folder, name, size=(8, 8), form="JPEG"):
    """Write a picture as a run keeps it."""
    stream = io.BytesIO()
    Image.effect_noise(size, 90).save(stream, form, quality=95)
    (folder / f"{name}.jpg").write_bytes(stream.getvalue())


def shown(folder, *digests):
    """Return the names of the pictures of a row that the page would show."""
    row = {"images": [{"path": f"{i}.png", "digest": digest} for i, digest in enumerate(digests)]}
    return [picture["name"] for picture in named_pictures(folder, row)]


def test_a_picture_is_found_by_its_hash(tmp_path):
    """Those that are there are shown, in the order of the row, and at most four."""
    kept(tmp_path, DIGEST)
    assert shown(tmp_path, "f" * 16, DIGEST) == ["1.png"]
    assert shown(tmp_path, *[DIGEST] * 9) == ["0.png", "1.png", "2.png", "3.png"]


def test_what_is_no_small_jpeg_of_ours_is_left_out(tmp_path):
    """Large files, other formats, links and names that are no hash are not put on the page."""
    kept(tmp_path, "a" * 16, size=(600, 600))
    kept(tmp_path, "b" * 16, form="PNG")
    kept(tmp_path, "c" * 16)
    (tmp_path / f"{'d' * 16}.jpg").symlink_to(tmp_path / f"{'c' * 16}.jpg")
    (tmp_path / "inner").mkdir()
    kept(tmp_path, DIGEST)
    names = ["a" * 16, "b" * 16, "d" * 16, f"../{tmp_path.name}/{'c' * 16}", "", None]
    assert shown(tmp_path, *names) == []
    assert shown(tmp_path / "inner", f"../{DIGEST}") == []


def test_rows_that_record_something_else(tmp_path):
    """No content of a row's `images` is an error."""
    for images in (None, 3, "a.png", [], [3], [None], [{"path": 1}], {"digest": DIGEST}):
        assert list(named_pictures(tmp_path, {"images": images})) == []

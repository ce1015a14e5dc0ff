"""Pictures from files: where they may lie, what is decoded and how, and what is refused."""

import io
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from support.vision_models import SeeingPolicy, paint

from recipec.diagnostics.model import RecipeError
from recipec.host.preflight import PreflightRequest
from recipec.runtime.data import image_preflight
from recipec.runtime.images.cache import Cache
from recipec.runtime.images.files import ImageError
from recipec.runtime.images.image_store import ImageStore, decode
from recipec.runtime.images.picture import Picture, places
from recipec.spec.data import File


def saved(image, form, **more):
    """Return an image as the bytes of a file."""
    stream = io.BytesIO()
    image.save(stream, form, **more)
    return stream.getvalue()


def chunk(name, data):
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_png(width, height):
    """Return a PNG of a few hundred bytes whose header speaks of any number of pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


WHOLE = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "PNG")
JPEG = saved(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
BROKEN = [
    ("empty", b"", "RC862", "empty"),
    ("text", b"not a picture", "RC862", "not one of PNG"),
    ("html", b"<html><body>404</body></html>", "RC862", "not one of PNG"),
    ("truncated png", WHOLE[: len(WHOLE) // 2], "RC862", "truncated"),
    ("truncated jpeg", JPEG[: len(JPEG) // 2], "RC862", "truncated"),
    ("header alone", WHOLE[:20], "RC862", ""),
    ("damaged", WHOLE[:100] + b"\0" * 200 + WHOLE[300:], "RC862", ""),
    ("tiff", saved(Image.new("RGB", (8, 8)), "TIFF"), "RC862", "not one of PNG"),
    ("many pixels", huge_png(9000, 9000), "RC862", "9000 x 9000"),
    ("more pixels", huge_png(60_000, 60_000), "RC862", "64,000,000"),
    ("most pixels", huge_png(2**31 - 1, 2**31 - 1), "RC862", "64,000,000"),
    ("gif of two", saved(Image.new("L", (4, 4)), "GIF", save_all=True, append_images=[Image.new("L", (4, 4), 9)]),
     "RC862", "frames"),
    ("png of two", saved(Image.new("L", (4, 4)), "PNG", save_all=True, append_images=[Image.new("L", (4, 4), 9)]),
     "RC862", "frames"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "code", "word"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_what_is_no_whole_picture_is_refused_with_file_and_row(tmp_path, data, code, word):
    """Broken, foreign and oversized files each give one code, and never another error."""
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(RecipeError) as caught:
        ImageStore(SeeingPolicy()).picture(tmp_path, "a.png", "a.png", "data.jsonl", 7)
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert "data.jsonl, row 7" in found.message
    assert word in found.message
    assert (found.spans[0].file, found.spans[0].line) == ("data.jsonl", 7)


NAMES = [
    ("", "not a path"),
    (".", "not a path"),
    ("/etc/hostname", "absolute path"),
    ("../a.png", "by `..`"),
    ("inner/../../a.png", "by `..`"),
    ("~/a.png", "absolute path"),
    ("https://example.org/a.png", "an address"),
    ("FILE:///etc/passwd", "an address"),
    ("data:image/png;base64,AAAA", "an address"),
    ("C:\\pictures\\a.png", "an address"),
    ("inner\\a.png", "a backslash"),
    ("a\0.png", "not a path"),
    ("link.png", "symbolic link `link.png`"),
    ("linked/a.png", "symbolic link `linked`"),
    ("gone.png", "no such file"),
    ("inner/gone/a.png", "no such file"),
    ("inner", "not a file"),
    ("pipe", "not a file"),
    ("a.png/b.png", "Not a directory"),
    ("x" * 5000, "name too long"),
    ("\ud800.png", "no file has such a name"),
]


@pytest.mark.parametrize(("name", "problem"), NAMES, ids=[repr(n[:20]) for n, _ in NAMES])
def test_a_row_names_only_files_below_its_own_folder(tmp_path, name, problem):
    """Addresses, absolute paths, `..`, links, pipes and folders are refused; nothing is opened outside."""
    data = tmp_path / "data"
    paint(tmp_path / "a.png")
    paint(data / "inner" / "a.png")
    paint(data / "a.png")
    (data / "link.png").symlink_to(tmp_path / "a.png")
    (data / "linked").symlink_to(data / "inner")
    os.mkfifo(data / "pipe")
    with pytest.raises(RecipeError) as caught:
        ImageStore(SeeingPolicy()).picture(data, name, name, "data.jsonl", 1)
    (found,) = caught.value.diagnostics
    assert found.code == "RC862"
    assert problem in found.message


def test_a_file_of_many_bytes_is_not_read(tmp_path):
    """Beyond 64 MiB the size alone refuses a file."""
    with (tmp_path / "a.png").open("wb") as stream:
        stream.truncate((64 << 20) + 1)
    with pytest.raises(RecipeError) as caught:
        ImageStore(SeeingPolicy()).picture(tmp_path, "a.png", "a.png", "d", 1)
    assert caught.value.diagnostics[0].code == "RC862"
    assert "67,108,865 bytes" in caught.value.diagnostics[0].message


def test_a_folder_that_cannot_be_entered_is_said(tmp_path):
    """A folder of the data that is none is a coded complaint, too."""
    with pytest.raises(RecipeError) as caught:
        ImageStore(SeeingPolicy()).picture(tmp_path / "nowhere", "a.png", "a.png", "d", 1)
    assert caught.value.diagnostics[0].code == "RC862"
    assert "no such file" in caught.value.diagnostics[0].message


MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("1", "L", "RGB", "CMYK", "YCbCr"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "WEBP": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_every_mode_of_every_format_comes_out_as_rgb(form, mode):
    """Grey, palettes, transparency, 16 bits and print colours all become red, green and blue."""
    found = decode(saved(Image.new(mode, (5, 3)), form))
    assert (found.mode, found.size) == ("RGB", (5, 3))


def test_what_is_transparent_is_white():
    """Hidden colours under full transparency do not come out."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    found = decode(saved(image, "PNG"))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]


def test_sixteen_bits_keep_their_shades():
    """A 16-bit picture is scaled to 8 bits and not cut off at 255."""
    grey = np.array([[0, 0x8000, 0xFFFF]], dtype=np.uint16)
    found = decode(saved(Image.fromarray(grey), "PNG"))
    assert [found.getpixel((x, 0))[0] for x in range(3)] == [0, 127, 255]


def test_a_picture_stands_upright():
    """The orientation that a camera writes beside the pixels is applied."""
    image = Image.new("RGB", (4, 2), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert decode(saved(image, "JPEG", exif=exif)).size == (2, 4)


def test_the_preview_in_a_camera_file_is_left_out():
    """A JPEG with further frames of a camera is its first frame."""
    image = Image.new("RGB", (8, 8), (250, 0, 0))
    found = decode(saved(image, "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))]))
    assert found.size == (8, 8)


def test_decoding_leaves_the_warnings_filter_as_it_was():
    """Limits are not set for the whole process."""
    before = list(warnings.filters)
    with pytest.raises(ImageError):
        decode(huge_png(60_000, 60_000))
    assert warnings.filters == before


def test_one_content_is_processed_once(tmp_path):
    """Two names of the same bytes share what the policy made of them, under their own names."""
    paint(tmp_path / "a.png")
    paint(tmp_path / "b.png")
    paint(tmp_path / "c.png", colour=(0, 0, 255))
    policy = SeeingPolicy()
    image_store = ImageStore(policy)
    one, two, other = (image_store.picture(tmp_path, f"{n}.png", f"d/{n}.png", "d", 1) for n in "abc")
    assert policy.processed == 2
    assert one.inputs is two.inputs
    assert (one.path, two.path) == ("d/a.png", "d/b.png")
    assert one.digest == two.digest != other.digest
    assert image_store.picture(tmp_path, "a.png", "d/a.png", "d", 2) is one


def test_a_picture_that_was_sampled_with_must_be_the_same(tmp_path):
    """A recorded row finds its picture again by path and digest; another picture under the path is refused."""
    paint(tmp_path / "pics" / "a.png")
    seen = ImageStore(SeeingPolicy()).picture(tmp_path / "pics", "a.png", "pics/a.png", "d", 1)
    again = ImageStore(SeeingPolicy()).recorded_picture(tmp_path, seen.path, seen.digest, "rows", 3)
    assert (again.digest, again.path) == (seen.digest, seen.path)
    paint(tmp_path / "pics" / "a.png", colour=(1, 2, 3))
    with pytest.raises(RecipeError) as caught:
        ImageStore(SeeingPolicy()).recorded_picture(tmp_path, seen.path, seen.digest, "rows", 3)
    assert caught.value.diagnostics[0].code == "RC869"


def test_small_copies_for_the_report(tmp_path):
    """A picture is kept once, as a small JPEG named by its digest."""
    paint(tmp_path / "a.png", width=640, height=320)
    image_store = ImageStore(SeeingPolicy())
    seen = image_store.picture(tmp_path, "a.png", "a.png", "d", 1)
    image_store.keep_small(tmp_path / "kept", [seen, seen])
    (kept,) = (tmp_path / "kept").iterdir()
    assert kept.name == f"{seen.digest}.jpg"
    with Image.open(kept) as small:
        assert small.size == (160, 80)


def test_places_skip_a_beginning_that_is_not_the_image():
    """Where tokens begin like an image and go on otherwise, it is looked for further on; no two share a token."""
    image = Picture("1", "a", {}, (7, 8, 8, 9))
    assert places((7, 8, 7, 8, 8, 9), [image]) == [(2, 6)]
    with pytest.raises(ValueError, match="not in"):
        places((7, 8), [image])
    even = Picture("2", "b", {}, (7, 7))
    assert places((7, 7, 7, 7), [even, even]) == [(0, 2), (2, 4)]


def test_more_pictures_than_memory_are_read_again(tmp_path):
    """Beyond the bound the least recently used inputs go; asked for, they are the same; a changed file is refused."""
    for name in "abc":
        paint(tmp_path / f"{name}.png", colour=(ord(name), 0, 0))
    policy = SeeingPolicy()
    image_store = ImageStore(policy)
    image_store._cache.most_bytes = 2 * 8 * 8 * 3 * 4
    seen = [image_store.picture(tmp_path, f"{name}.png", name, "d.jsonl", 4) for name in "abc"]
    assert policy.processed == 3
    assert [int(picture.inputs["pixel_values"][0]) for picture in seen[1:]] == [ord("b"), ord("c")]
    assert policy.processed == 3
    assert int(seen[0].inputs["pixel_values"][0]) == ord("a")
    assert (policy.processed, dict(seen[0].inputs).keys()) == (4, {"pixel_values"})
    paint(tmp_path / "b.png", colour=(0, 9, 0))
    with pytest.raises(RecipeError) as caught:
        seen[1].inputs["pixel_values"]
    (found,) = caught.value.diagnostics
    assert (found.code, found.spans[0].line) == ("RC869", 4)


def test_inputs_in_use_stay_in_memory():
    """Where two fit, the one that was asked for last outlives the one that was only made last."""
    cache, again = Cache(most_bytes=8), []

    def made(name):
        again.append(name)
        return {"pixel_values": torch.ones(1)}

    seen = {name: cache.put(name, {"pixel_values": torch.ones(1)}, lambda n=name: made(n)) for name in "ab"}
    assert seen["a"]["pixel_values"] == 1
    seen["c"] = cache.put("c", {"pixel_values": torch.ones(1)}, lambda: made("c"))
    assert seen["a"]["pixel_values"] == 1
    assert again == []
    assert seen["b"]["pixel_values"] == 1
    assert again == ["b"]


def test_only_rows_that_are_read_must_have_their_images(tmp_path):
    """Before a run the first image that cannot be opened is named, unless the limit leaves its row out."""
    paint(tmp_path / "a.png")
    names = ("a.png", "gone.png", "lost.png")
    (tmp_path / "a.jsonl").write_text("".join(f'{{"prompt": "?", "images": ["{name}"]}}\n' for name in names))
    data, one = File(path="a.jsonl"), File(path="a.jsonl", limit=1)
    assert list(image_preflight.check(one, PreflightRequest(tmp_path, sees=True))) == []
    assert list(image_preflight.check(data, PreflightRequest(tmp_path, sees=False))) == []
    (found,) = image_preflight.check(data, PreflightRequest(tmp_path, sees=True))
    assert (found.code, found.spans[0].line) == ("RC862", 2)
    digests = [image_preflight.digests(spec, tmp_path) for spec in (one, data)]
    paint(tmp_path / "lost.png")
    again = [image_preflight.digests(spec, tmp_path) for spec in (one, data)]
    assert again[0] == digests[0]
    assert again[1] != digests[1]

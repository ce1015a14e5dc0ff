"""Attacks by images and by the paths that name them in a column of the data."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

from attacks.attack import DONE, Attack, Scene
from support.small_recipes import SEEING, rows


def shows(content: bytes | None = None, name: Any = "x.png", more=lambda _: None):
    """Train on rows with an image of this content, under this name."""

    def act(scene: Scene) -> str:
        if content is not None:
            scene.write("x.png", content)
        more(scene)
        shown = {"images": [name], "prompt": "what?", "completion": "yes"}
        scene.write("a.jsonl", rows(*[shown] * 2))
        scene.write("r.yaml", SEEING)
        return scene.call("run", "r.yaml")

    return act


def chunk(kind: bytes, data: bytes) -> bytes:
    """Write a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes = b"", *more: bytes) -> bytes:
    """Write a PNG with a size in its header, and zlib data as its pixels."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def saved(kind: str, **options: Any):
    """Train on a small image of a format."""

    def act(scene: Scene) -> str:
        return shows(encoded(kind, **options))(scene)

    return act


def encoded(kind: str, size: tuple[int, int] = (16, 16), mode: str = "RGB", **options: Any) -> bytes:
    """Encode a small image."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind, **options)
    return stream.getvalue()


def animated(kind: str):
    """Train on an image of two frames."""

    def act(scene: Scene) -> str:
        from PIL import Image

        frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
        stream = io.BytesIO()
        frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
        return shows(stream.getvalue())(scene)

    return act


def exif(data: bytes):
    """Train on a JPEG with this EXIF block."""
    return saved("JPEG", exif=b"Exif\0\0" + data)


def linked(target: str, name: str = "x.png"):
    """Name an image that is a link."""
    return shows(None, name, lambda _: Path(name.partition("/")[0]).symlink_to(target))


_SQUARE = zlib.compress(b"\0" + b"\0" * 16)
_PIXELS = zlib.compress((b"\0" + b"\0" * 16) * 16)
_INFLATED = b"a\0\0" + zlib.compress(bytes(60 << 20))
_GOOD = png(16, 16, _PIXELS)
_FIELD = struct.pack("<HHII", 0x0112, 3, 1, 6)

ATTACKS = [
    Attack("image-good", "CWE-20", DONE, shows(_GOOD)),
    Attack("image-bomb-header", "CWE-409", "RC862", shows(png(60_000, 60_000, _SQUARE))),
    Attack("image-bomb-pixels", "CVE-2022-45198", "RC862", shows(png(20_000, 20_000, zlib.compress(bytes(4 << 20))))),
    Attack("image-thin", "CWE-1284", "RC862", shows(png(2**31 - 1, 1, _SQUARE))),
    Attack("image-no-pixels", "CWE-1284", "RC862", shows(png(0, 0, _SQUARE))),
    Attack("image-truncated", "CWE-20", "RC862", shows(_GOOD[:42])),
    Attack("image-text-bomb", "CVE-2014-9601", "RC862", shows(png(16, 16, _PIXELS, chunk(b"zTXt", _INFLATED)))),
    Attack("image-profile-bomb", "CVE-2014-9601", "RC862", shows(png(16, 16, _PIXELS, chunk(b"iCCP", _INFLATED)))),
    Attack(
        "image-svg",
        "CVE-2016-3714",
        "RC862",
        shows(b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>'),
    ),
    Attack(
        "image-svg-entities",
        "CVE-2013-1665",
        "RC862",
        shows(b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>'),
    ),
    Attack("image-mvg", "CVE-2016-3714", "RC862", shows(b"push graphic-context\nfill 'url(https://x/|touch x)'\n")),
    Attack(
        "image-eps",
        "CVE-2018-16509",
        "RC862",
        shows(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%touch x)(w)file\n"),
    ),
    Attack("image-pdf", "CVE-2021-25292", "RC862", shows(b"%PDF-1.4\n1 0 obj<</S/JavaScript>>\n")),
    Attack("image-pickle", "CWE-502", "RC862", shows(b"\x80\x04cos\nsystem\n(S'touch x'\ntR.")),
    Attack("image-html", "CWE-434", "RC862", shows(b"<html><script>alert(1)</script></html>")),
    Attack(
        "image-polyglot", "CWE-434", DONE, shows(_GOOD + b"PK\x03\x04<script>alert(1)</script>#!/bin/sh\ntouch x\n")
    ),
    Attack("image-fli", "CVE-2021-28676", "RC862", shows(struct.pack("<IHHHH", 128, 0xAF11, 1, 9, 9) + bytes(118))),
    Attack(
        "image-ico-bomb", "CVE-2021-27923", "RC862", shows(b"\0\0\1\0\1\0\0\0\0\0\1\0\x20\0\xff\xff\xff\x7f\x16\0\0\0")
    ),
    Attack("image-icns-bomb", "CVE-2021-27922", "RC862", shows(b"icns\x7f\xff\xff\xffic09\x7f\xff\xff\xf0")),
    Attack("image-blp", "CVE-2021-27921", "RC862", shows(b"BLP2\1\0\0\0\1\0\0\0" + b"\xff" * 64)),
    Attack("image-jpeg2000", "CVE-2021-25287", "RC862", shows(b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 64)),
    Attack("image-tiff-bomb", "CVE-2021-25290", "RC862", shows(b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 64)),
    Attack(
        "image-webp-damaged",
        "CVE-2023-4863",
        "RC862",
        shows(b"RIFF\xff\xff\xff\x7fWEBPVP8L\xff\xff\xff\x7f" + b"\x2f" + b"\xff" * 64),
    ),
    Attack("image-gif-animated", "CVE-2022-45198", "RC862", animated("GIF")),
    Attack("image-png-animated", "CWE-834", "RC862", animated("PNG")),
    Attack("image-webp-animated", "CWE-834", "RC862", animated("WEBP")),
    Attack("image-exif-huge", "CWE-400", DONE, exif(b"II*\0\x08\0\0\0\1\0" + _FIELD + bytes(65_000))),
    Attack(
        "image-exif-loop",
        "CWE-835",
        DONE,
        exif(b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0x8769, 4, 1, 8) + b"\x08\0\0\0"),
    ),
    Attack(
        "image-exif-lies",
        "CWE-125",
        DONE,
        exif(b"II*\0\x08\0\0\0\xff\xff" + struct.pack("<HHII", 0x0112, 2, 2**31, 2**31)),
    ),
    Attack("image-float-pixels", "CWE-681", "RC862", saved("TIFF", mode="F")),
    Attack("image-endless-device", "CWE-400", "RC862", linked("/dev/zero")),
    Attack("image-link-to-secret", "CWE-59", "RC862", linked("/etc/passwd")),
    Attack("image-through-linked-folder", "CWE-59", "RC862", linked("/etc", "d/x.png")),
    Attack("image-fifo", "CWE-400", "RC862", shows(None, "x.png", lambda _: os.mkfifo("x.png"))),
    Attack("image-parent", "CWE-22", "RC862", shows(_GOOD, "../image-parent/x.png")),
    Attack("image-absolute", "CWE-36", "RC862", shows(_GOOD, "/etc/passwd")),
    Attack("image-home", "CWE-22", "RC862", shows(_GOOD, "~/x.png")),
    Attack("image-backslash", "CWE-29", "RC862", shows(_GOOD, "..\\x.png")),
    Attack("image-address", "CWE-918", "RC862", shows(_GOOD, "http://127.0.0.1:1/x.png")),
    Attack("image-file-address", "CWE-918", "RC862", shows(_GOOD, "file:///etc/passwd")),
    Attack("image-inline", "CWE-918", "RC862", shows(_GOOD, "data:image/png;base64,AAAA")),
    Attack("image-nul-name", "CWE-158", "RC862", shows(_GOOD, "x.png\0.txt")),
    Attack("image-escape-name", "CWE-150", "RC862", shows(_GOOD, "\x1b]0;x\x07\x1b[2J.png")),
    Attack("image-long-name", "CWE-20", "RC862", shows(_GOOD, "a/" * 5000 + "x.png")),
    Attack("image-forged-hash", "CWE-345", "RC862", shows(_GOOD, "embedded:" + "0" * 64)),
    Attack("image-forged-path", "CWE-22", "RC862", shows(_GOOD, "embedded:../../../../etc/passwd")),
    Attack("image-number-for-name", "CWE-843", "RC867", shows(_GOOD, 7)),
]

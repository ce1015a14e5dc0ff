"""A policy that can read, write and look, without a model: an image is its size in tokens between two marks."""

import hashlib
import io
import json

import torch
from PIL import Image

from recipec.runtime.data.text import Text
from recipec.runtime.images.image_store import ImageStore
from recipec.runtime.images.picture import Picture
from recipec.runtime.model import scratch

OPEN, PATCH, CLOSE = 1001, 1002, 1003
_PLACE = "\ue010"


class SeeingPolicy:
    """The processor's side of a vision policy: one token for each four columns of pixels."""

    def __init__(self):
        self.tokenizer = scratch.bytes_()
        self.text = Text(self.tokenizer)
        self.eos_id = self.tokenizer.eos_token_id
        self.stop_ids = (self.eos_id,)
        self.processed = 0
        self.image_encoder = self
        self.image_store = ImageStore(self)
        self.max_positions = 1 << 31

    def encode(self, text, after=()):
        """Encode text."""
        return self.text.encode(text, after)

    def picture(self, image, path):
        """Process an image."""
        self.processed += 1
        assert image.mode == "RGB"
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).float()
        digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).hexdigest()
        tokens = (OPEN, *[PATCH] * (image.width // 4), CLOSE)
        return Picture(digest, path, {"pixel_values": pixels}, tokens)

    def render(self, messages, *, generation, variables=None, images=()):
        """Encode a conversation, each place for an image as the tokens of the next."""
        flat = [{**m, "content": _flat(m["content"])} for m in messages]
        ids = self.text.render(flat, generation=generation, variables=variables)
        mark = self.encode(_PLACE)
        starts = [i for i in range(len(ids)) if ids[i : i + len(mark)] == mark]
        assert len(starts) == len(images)
        for start, image in zip(starts[::-1], images[::-1], strict=True):
            ids[start : start + len(mark)] = image.tokens
        return ids

    def decode(self, ids):
        """Decode text, each image as `[n]` for its n tokens."""
        found, run, patches = "", [], 0
        for token in [*ids, None]:
            if token in {OPEN, PATCH, CLOSE, None}:
                found, run = found + self.tokenizer.decode(run, skip_special_tokens=False), []
                patches = patches + 1 if token == PATCH else 0 if token == OPEN else patches
                found += f"[{patches}]" if token == CLOSE else ""
            else:
                run.append(token)
        return found


def _flat(content):
    if isinstance(content, str):
        return content
    return "".join(_PLACE if part["type"] == "image" else part["text"] for part in content)


def paint(path, *, width=8, height=8, colour=(200, 60, 30), form="PNG", **more):
    """Write a picture of one colour and return its bytes."""
    stream = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(stream, form, **more)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())
    return stream.getvalue()


def write(root, *rows, name="a.jsonl"):
    """Write rows as JSONL."""
    (root / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

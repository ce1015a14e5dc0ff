"""What the encoder makes of images: each encoded once, and looked up by the ids of its tokens."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.images.picture import Picture
from recipec.runtime.model.vision_families import Family

_REMEMBERED = 1 << 28  # bytes of features kept from pass to pass, where the encoder does not change


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """Features of the images of one pass; H is the decoder's width.

    Example: ``EncodedImage(torch.zeros(6, 8), torch.tensor([100, 104]), torch.tensor([0, 4]))``: images of 4 and 2
    tokens.
    """

    features_FH: Tensor
    begins_I: Tensor
    """First id of each image; increasing."""
    starts_I: Tensor
    """Where its features begin."""

    def of(self, ids_N: Tensor) -> Tensor:
        """Return the features of image tokens."""
        image_N = torch.searchsorted(self.begins_I, ids_N, right=True) - 1
        return self.features_FH[self.starts_I[image_N] + ids_N - self.begins_I[image_N]]


class ImageEncoder:
    """Encodes the images of a pass together; while it does not change, what it gave is kept."""

    def __init__(self, family: Family) -> None:
        """Begin with nothing kept."""
        self.family = family
        self.encoded = 0
        """Images encoded so far."""
        self._kept: OrderedDict[tuple[str, torch.dtype], Tensor] = OrderedDict()

    def __call__(self, model: Any, pictures: Sequence[Picture], *, fixed: bool) -> list[Tensor]:
        """Return the features of each image; ``fixed`` says that the encoder gets no gradients."""
        dtype, device = model.dtype, model.device
        kept = {p.digest: self._kept.get((p.digest, dtype)) if fixed else None for p in pictures}
        missing = [p for p in pictures if kept[p.digest] is None]
        if missing:
            new_pictures = [
                {n: v.to(device, dtype if v.is_floating_point() else None) for n, v in p.inputs.items()}
                for p in missing
            ]
            # what is kept must serve a pass with gradients, too, and be the same whatever was encoded before
            parts = [[one] for one in new_pictures] if fixed else [new_pictures]
            with torch.inference_mode(mode=False), torch.set_grad_enabled(torch.is_grad_enabled() and not fixed):
                encoded = [one for part in parts for one in self.family.features(model, part)]
            self.encoded += len(missing)
            kept |= {p.digest: one.to(dtype) for p, one in zip(missing, encoded, strict=True)}
            if fixed:
                self._keep({(p.digest, dtype): one.to(dtype) for p, one in zip(missing, encoded, strict=True)})
        return [one for p in pictures if (one := kept[p.digest]) is not None]

    def _keep(self, features: dict[tuple[str, torch.dtype], Tensor]) -> None:
        self._kept |= features
        kept_bytes = sum(one.nbytes for one in self._kept.values())
        while kept_bytes > _REMEMBERED:
            kept_bytes -= self._kept.popitem(last=False)[1].nbytes

"""What families of image-text models do differently: modules, tokens of an image, its positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recipec.runtime.images.picture import Inputs


class Family(ABC):
    """One family; paths of modules are from the model that has the head."""

    types: tuple[str, ...]
    """``model_type`` of its configurations."""
    decoder: str
    """Path of the text decoder."""
    tower: str
    """Path of the image encoder."""
    projectors: tuple[str, ...]
    """Paths of what brings its results to the decoder's width; maybe inside of the encoder."""
    shown: str
    """Token that stands for a piece of an image."""
    marks: tuple[str, ...] = ()
    """Further tokens that no text may spell."""
    params: tuple[str, ...]
    """Parameters of ``policy.image`` that its processor takes, in addition to size and fit."""
    turns: bool
    """Whether image tokens have positions of their own in three axes (M-RoPE)."""
    processors: Mapping[str, str]
    """Class of the image processor that needs no torchvision, by model type."""
    joint: Mapping[str, str]
    """Class of the processor that takes text and images together, by model type: named in saved folders."""

    @abstractmethod
    def configure(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Turn parameters of ``policy.image`` into arguments of the image processor."""

    def processor_settings(self) -> dict[str, int]:
        """Parameters of the joint processor in addition to its class."""
        return {}

    @abstractmethod
    def prepare(self, processor: Any, image: Any) -> tuple[dict[str, Tensor], str]:
        """Return the encoder's arguments for one image, and what stands for it in text."""

    @abstractmethod
    def joined(self, images: Sequence[Inputs]) -> dict[str, Tensor]:
        """Return the encoder's arguments for several images in one pass."""

    @abstractmethod
    def features(self, model: Any, images: Sequence[Inputs]) -> tuple[Tensor, ...]:
        """Encode images in one pass; return the embeddings of each one's tokens.

        What :meth:`deeper` adds to later layers is in columns behind those of the embeddings.
        """

    @abstractmethod
    def random_inputs(self, vision: Any, rows: int) -> dict[str, Tensor]:
        """Draw the encoder's arguments for an image of ``rows`` by 4 patches, or of the size that it takes.

        Args:
            vision: The encoder's configuration.
            rows: A multiple of the patches that are merged; it also seeds the draw.
        """

    def deeper(self, seen_RT: Tensor, features: Sequence[Tensor]) -> dict[str, Any]:  # noqa: ARG002 - of Qwen3-VL
        """Return the decoder's arguments for features that are added behind its first layers.

        Args:
            seen_RT: Which tokens are of images.
            features: For each layer, a row per image token.
        """
        return {}

    def shape(self, model: Any, inputs: Inputs) -> tuple[int, int, int] | None:  # noqa: ARG002 - of those that turn
        """Return the grid of an image's tokens, times, rows and columns, where positions turn by it."""
        return None


class Qwen(Family):
    """Qwen2-VL and Qwen2.5-VL: an image of its own size, one token for each square of merged patches.

    References:
        Wang et al., `Qwen2-VL <https://arxiv.org/abs/2409.12191>`_, 2024: M-RoPE, section 2.1.
    """

    types: tuple[str, ...] = ("qwen2_vl", "qwen2_5_vl")
    decoder = "model.language_model"
    tower = "model.visual"
    projectors: tuple[str, ...] = ("model.visual.merger",)
    shown = "<|image_pad|>"
    marks = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
    params = ("min_pixels", "max_pixels")
    turns = True
    processors: Mapping[str, str] = dict.fromkeys(types, "Qwen2VLImageProcessorPil")
    joint: Mapping[str, str] = {"qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor"}

    def configure(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Areas have the processor's names."""
        return dict(params)

    def prepare(self, processor: Any, image: Any) -> tuple[dict[str, Tensor], str]:
        """Return patches and grid."""
        processed = processor(images=[image], return_tensors="pt")
        inputs = {"pixel_values": processed["pixel_values"], "image_grid_thw": processed["image_grid_thw"]}
        tokens = int(inputs["image_grid_thw"].prod()) // int(processor.merge_size) ** 2
        begin, end, _ = self.marks
        return inputs, begin + self.shown * tokens + end

    def joined(self, images: Sequence[Inputs]) -> dict[str, Tensor]:
        """Concatenate the patches of all images."""
        return {name: torch.cat([one[name] for one in images]) for name in images[0]}

    def features(self, model: Any, images: Sequence[Inputs]) -> tuple[Tensor, ...]:
        """Encode patches of all images end to end."""
        return tuple(model.get_image_features(**self.joined(images), return_dict=True).pooler_output)

    def random_inputs(self, vision: Any, rows: int) -> dict[str, Tensor]:
        """Draw patches."""
        width = 3 * int(vision.temporal_patch_size) * int(vision.patch_size) ** 2
        pixels = torch.randn(4 * rows, width, generator=torch.Generator().manual_seed(rows))
        return {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, rows, 4]])}

    def shape(self, model: Any, inputs: Inputs) -> tuple[int, int, int]:
        """Return the grid after merging."""
        times, rows, columns = (int(n) for n in inputs["image_grid_thw"][0])
        merge = int(model.config.vision_config.spatial_merge_size)
        return times, rows // merge, columns // merge


class Qwen3(Qwen):
    """Qwen3-VL: as Qwen2-VL, with features of three layers of the encoder added to the decoder's first layers.

    References:
        Bai et al., `Qwen3-VL <https://arxiv.org/abs/2511.21631>`_, 2025.
        Meng et al., `DeepStack <https://arxiv.org/abs/2406.04334>`_, 2024.
    """

    types = ("qwen3_vl",)
    projectors = ("model.visual.merger", "model.visual.deepstack_merger_list")
    processors = {"qwen3_vl": "Qwen2VLImageProcessorPil"}  # noqa: RUF012 - as its parent's
    joint = {"qwen3_vl": "Qwen3VLProcessor"}  # noqa: RUF012

    def features(self, model: Any, images: Sequence[Inputs]) -> tuple[Tensor, ...]:
        """Encode patches of all images end to end; columns are those of the embeddings, then of each layer's share."""
        encoded = model.get_image_features(**self.joined(images), return_dict=True)
        return tuple(
            torch.cat(parts, -1) for parts in zip(encoded.pooler_output, *encoded.deepstack_features, strict=True)
        )

    def deeper(self, seen_RT: Tensor, features: Sequence[Tensor]) -> dict[str, Any]:
        """Return the mask of image tokens, and what is added to them layer by layer."""
        return {"visual_pos_masks": seen_RT, "deepstack_visual_embeds": list(features)}


class Idefics(Family):
    """Idefics3 and SmolVLM: squares of one size, each a fixed number of tokens between separators.

    References:
        Laurençon et al., `Building and better understanding vision-language models <https://arxiv.org/abs/2408.12637>`_,
        2024.
        Marafioti et al., `SmolVLM <https://arxiv.org/abs/2504.05299>`_, 2025.
    """

    types = ("idefics3", "smolvlm")
    decoder = "model.text_model"
    tower = "model.vision_model"
    projectors = ("model.connector",)
    shown = "<image>"
    around = "<fake_token_around_image>"
    whole = "<global-img>"
    marks = (around, whole)
    params = ("split",)
    turns = False
    processors = {"idefics3": "Idefics3ImageProcessorPil", "smolvlm": "SmolVLMImageProcessorPil"}  # noqa: RUF012
    joint = {"idefics3": "Idefics3Processor", "smolvlm": "SmolVLMProcessor"}  # noqa: RUF012
    length = 0
    """Tokens of a square: a property of the model, see :meth:`measured`."""

    def measured(self, config: Any) -> Idefics:
        """Return the family with the number of tokens that a square of this model has."""
        vision = config.vision_config
        family = Idefics()
        family.length = int((vision.image_size // vision.patch_size) ** 2 / config.scale_factor**2)
        return family

    def configure(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Whether to read tiles."""
        return {"do_image_splitting": params["split"]} if "split" in params else {}

    def processor_settings(self) -> dict[str, int]:
        """Return the tokens of a square."""
        return {"image_seq_len": self.length}

    def prepare(self, processor: Any, image: Any) -> tuple[dict[str, Tensor], str]:
        """Return tiles, row by row and the whole image last, with what masks their padding."""
        processed = processor(images=[[image]], return_tensors="pt", return_row_col_info=True)
        inputs = {name: processed[name] for name in ("pixel_values", "pixel_attention_mask") if name in processed}
        rows, columns = int(processed["rows"][0][0]), int(processed["cols"][0][0])
        square = self.shown * self.length
        text = ""
        for row in range(rows):
            tiles = (f"{self.around}<row_{row + 1}_col_{column + 1}>{square}" for column in range(columns))
            text += "".join(tiles) + "\n"
        return inputs, f"{text}{chr(10) if rows else ''}{self.around}{self.whole}{square}{self.around}"

    def joined(self, images: Sequence[Inputs]) -> dict[str, Tensor]:
        """Make one batch of the squares of all images."""
        return {name: torch.cat([one[name] for one in images], 1) for name in images[0]}

    def features(self, model: Any, images: Sequence[Inputs]) -> tuple[Tensor, ...]:
        """Encode the squares of all images as one batch."""
        squares = model.get_image_features(**self.joined(images), return_dict=True).pooler_output
        counts = [one["pixel_values"].shape[1] for one in images]
        assert len(squares) == sum(counts), "the encoder left out a square without a single bright pixel"
        return tuple(part.flatten(0, 1) for part in torch.split(squares, counts))

    def random_inputs(self, vision: Any, rows: int) -> dict[str, Tensor]:
        """Draw one square."""
        shape = (1, 1, 3, int(vision.image_size), int(vision.image_size))
        return {"pixel_values": torch.randn(shape, generator=torch.Generator().manual_seed(rows))}


FAMILIES: tuple[Family, ...] = (Qwen(), Qwen3(), Idefics())
KNOWN = tuple(kind for family in FAMILIES for kind in family.types)


def family_of(config: Any) -> Family | None:
    """Return the family of a model's configuration; none for text models and families unknown here."""
    for family in FAMILIES:
        if getattr(config, "model_type", "") in family.types:
            return family.measured(config) if isinstance(family, Idefics) else family
    return None


def turned(shape: tuple[int, int, int]) -> tuple[NDArray[np.int64], int]:
    """Return positions [3, N] of an image's tokens from its first one, and how far text goes on after it.

    Times, rows and columns count up on the three axes; text after an image begins behind the largest of them.

    >>> turned((1, 2, 3))[0].tolist(), turned((1, 2, 3))[1]
    ([[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]], 3)
    """
    return np.stack([axis.ravel() for axis in np.indices(shape)]), max(shape[1:])

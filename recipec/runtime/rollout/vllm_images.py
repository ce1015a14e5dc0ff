"""Images in requests to vLLM: the pixels that the policy's processor made, at the tokens where the prompt has them.

vLLM prepares nothing again, so neither pixels nor the ids of a prompt can differ from those that are trained.  It
encodes them with its own copy of the encoder's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from recipec.runtime.images.picture import Inputs, Picture, places

OPTIONS = {
    "limit_mm_per_prompt": {"video": 0},
    "mm_processor_cache_gb": 0,  # requests do not pass through vLLM's processor
    "mm_device_do_normalize": False,  # pixels come normalised
}
"""Arguments of vLLM for a model that reads images."""


def engine_input(ids: Sequence[int], images: Sequence[Picture], version: int, config: Any) -> dict[str, Any]:
    """Return a prompt as vLLM's engine takes it after its own preparation.

    vLLM keeps what its encoder made of an image under the image's name; ``version`` of the weights is a part of it.

    Args:
        ids: The prompt; every token of an image is in it.
        images: The images of the prompt, in order.
        version: Changes when the weights do.
        config: The model's configuration.
    """
    from vllm.inputs.engine import mm_input, tokens_input  # noqa: PLC0415 - it reads the environment when imported
    from vllm.multimodal.inputs import MultiModalKwargsItems, PlaceholderRange  # noqa: PLC0415 - as above

    if not images:
        return dict(tokens_input(list(ids)))
    items, ranges = [], []
    for picture, (begin, end) in zip(images, places(ids, images), strict=True):
        of_image = torch.tensor([token == config.image_token_id for token in ids[begin:end]])
        first, last = of_image.nonzero().flatten()[[0, -1]].tolist()
        mask = of_image[first : last + 1]  # separators between the squares of an image are text
        ranges.append(PlaceholderRange(begin + first, len(mask), None if bool(mask.all()) else mask))
        fields, kinds = _fields(picture.inputs)
        items += MultiModalKwargsItems.from_hf_inputs(fields, kinds)["image"]
    hashes = [f"{picture.digest}-{version}" for picture in images]
    return dict(mm_input(list(ids), MultiModalKwargsItems({"image": items}), {"image": hashes}, {"image": ranges}))


def _fields(inputs: Inputs) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of vLLM's encoder for one image, and how those of several images are joined."""
    from vllm.multimodal.inputs import MultiModalFieldConfig as Kind  # noqa: PLC0415 - as above

    if "image_grid_thw" in inputs:  # patches of an image of any size
        grid = inputs["image_grid_thw"]
        kinds = {"pixel_values": Kind.flat_from_sizes("image", grid.prod(-1))}
        return dict(inputs), kinds | {"image_grid_thw": Kind.batched("image", keep_on_cpu=True)}
    squares = {name: value[0] for name, value in inputs.items()}
    count = torch.tensor([len(squares["pixel_values"])])
    kinds = dict.fromkeys(squares, Kind.flat_from_sizes("image", count))
    return squares | {"num_patches": count}, kinds | {"num_patches": Kind.batched("image", keep_on_cpu=True)}

"""The data type of a model that is already built, as the library gives it to one that it loads."""

from __future__ import annotations

import re
from typing import Any

import torch


def cast(model: Any, dtype: torch.dtype) -> Any:
    """Give parameters and saved buffers a data type, in place; what loading leaves in float32 stays as it is.

    Buffers that no file has are computed in float32: frequencies of rotations in bfloat16 would turn distant tokens by
    other angles than those of the same model, saved and loaded.

    >>> layer = torch.nn.Linear(2, 2)
    >>> layer.register_buffer("inv_freq", torch.ones(1), persistent=False)
    >>> cast(layer, torch.bfloat16).weight.dtype, layer.inv_freq.dtype
    (torch.bfloat16, torch.float32)
    """
    names = getattr(model, "_keep_in_fp32_modules_strict", None) or ()
    wide = re.compile("|".join(rf"(?:^|\\.){re.escape(name)}(?:\\.|$)" for name in names) or r"(?!)")
    saved = model.state_dict(keep_vars=True)
    kept = {name: tensor.data for name, tensor in _tensors(model) if name not in saved or wide.search(name)}
    model.to(dtype)
    for name, tensor in _tensors(model):
        if name in kept:
            tensor.data = kept[name]
    return model


def _tensors(model: Any) -> list[tuple[str, torch.Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]

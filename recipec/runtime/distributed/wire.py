"""Values on their way between ranks: JSON for what is plain, safetensors for tensors, and no pickle."""

from __future__ import annotations

import json
from typing import Any

from safetensors.torch import load, save

from recipec.runtime.model.state_files import join_tensors, split_tensors

_HEADER = 8  # bytes


def pack(value: Any) -> bytes:
    """Write nested mappings and lists of JSON values and tensors as bytes."""
    described, tensors = split_tensors(value)
    text = json.dumps(described).encode()
    data: bytes = save(tensors)
    return len(text).to_bytes(_HEADER, "little") + text + data


def unpack(data: bytes) -> Any:
    """Undo :func:`pack`; tuples come back as lists.

    >>> import torch
    >>> unpack(pack({"reward_R": torch.tensor([0.5]), "seconds": 2.5, "names": ("a",)}))
    {'reward_R': tensor([0.5000]), 'seconds': 2.5, 'names': ['a']}
    """
    length = _HEADER + int.from_bytes(data[:_HEADER], "little")
    return join_tensors(json.loads(data[_HEADER:length]), load(data[length:]))

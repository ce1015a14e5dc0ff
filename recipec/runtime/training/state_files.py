"""States to files and back: safetensors for tensors, JSON for the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

_TENSOR = "$tensor"


def save_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write nested mappings and lists of JSON values and tensors as ``state.json`` and ``state.safetensors``."""
    described, tensors = split_tensors(dict(state))
    (folder / "state.json").write_text(json.dumps(described))
    with disk_problems():
        save_file(tensors, folder / "state.safetensors")


@contextmanager
def disk_problems() -> Iterator[None]:
    """Raise what safetensors says of a full disk as the OSError that it was."""
    try:
        yield
    except SafetensorError as error:
        reason = str(error).rpartition("I/O error: ")[2].partition(" (os error")[0]
        raise OSError(reason) from error


def load_state(folder: Path) -> dict[str, Any]:
    """Read what ``save_state`` wrote, tensors on the CPU."""
    tensors = load_file(folder / "state.safetensors")
    found = join_tensors(json.loads((folder / "state.json").read_text()), tensors)
    assert isinstance(found, dict)
    return found


def split_tensors(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Part nested data into JSON values and the tensors in it, which are copied to the CPU, by name.

    >>> split_tensors({"a": [1, torch.tensor(2)]})
    ({'a': [1, {'$tensor': '/a/1'}]}, {'/a/1': tensor(2)})
    """
    tensors: dict[str, Tensor] = {}
    return _without_tensors(value, "", tensors), tensors


def join_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo :func:`split_tensors`; tuples come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {k: join_tensors(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [join_tensors(v, tensors) for v in value]
    return value


def _without_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """Move tensors out of nested data; a function of its own, since a closure that calls itself keeps them alive."""
    if isinstance(value, Tensor):
        kept = value.detach().cpu().contiguous()
        shared = any(kept.data_ptr() == other.data_ptr() for other in tensors.values())
        tensors[path] = kept.clone() if shared else kept
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return {str(k): _without_tensors(v, f"{path}/{k}", tensors) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(v, f"{path}/{i}", tensors) for i, v in enumerate(value)]
    return value


def conditions() -> dict[str, str]:
    """What changes the bits of a sum: a half-finished stage may continue only under the same."""
    return {
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__.partition("+")[0],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Hash named weights, in hexadecimal.

    >>> fingerprint({"a": torch.zeros(2)}) == fingerprint({"a": torch.zeros(1, 2)})
    False
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

"""States to files and back: safetensors for tensors, JSON for the rest."""

from __future__ import annotations

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
    tensors: dict[str, Tensor] = {}

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            tensors[path] = value.detach().cpu().contiguous().clone()
            return {_TENSOR: path}
        if isinstance(value, Mapping):
            return {str(k): plain(v, f"{path}/{k}") for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v, f"{path}/{i}") for i, v in enumerate(value)]
        return value

    described = plain(dict(state), "")
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

    def full(value: Any) -> Any:
        if isinstance(value, dict):
            return tensors[value[_TENSOR]] if set(value) == {_TENSOR} else {k: full(v) for k, v in value.items()}
        if isinstance(value, list):
            return [full(v) for v in value]
        return value

    found = full(json.loads((folder / "state.json").read_text()))
    assert isinstance(found, dict)
    return found


def conditions() -> dict[str, str]:
    """What changes the bits of a sum: a half-finished stage may continue only under the same."""
    return {
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__.partition("+")[0],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }

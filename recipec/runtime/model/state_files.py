"""States to files and back: safetensors for tensors, JSON for the rest."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from recipec.host.artifacts import disk_errors, sync
from recipec.host.ranks import Ranks
from recipec.runtime.model.weight_layout import Gathering, full, in_parts

_TENSOR = "$tensor"
_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def described(state: Mapping[str, Any], ranks: Ranks) -> tuple[Any, dict[str, Tensor]]:
    """Part nested data into JSON values and the tensors that this rank writes, which are copied to the CPU.

    Tensors that are spread over ranks are made whole one after the other, and each is kept by the rank that has the
    fewest bytes so far: no process holds all of them. The leader has those that every rank has.

    >>> described({"a": [1, torch.tensor(2)]}, Ranks())
    ({'a': [1, {'$tensor': '/a/1'}]}, {'/a/1': tensor(2)})
    """
    leaves: dict[str, Gathering] = {}
    plain = _without_tensors(state, "", leaves)
    bytes_of_rank = [0] * ranks.size
    tensors: dict[str, Tensor] = {}
    kept: set[int] = set()
    for name, leaf in leaves.items():
        owner = 0
        tensor = full(leaf)
        if in_parts(leaf):
            owner = min(range(ranks.size), key=bytes_of_rank.__getitem__)
            bytes_of_rank[owner] += tensor.nbytes
        if owner == ranks.rank:
            tensors[name] = _on_cpu(tensor, kept)
        del tensor  # before the next one is gathered
    return plain, tensors


def save_tensors(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> None:
    """Write this rank's tensors: ``state.safetensors`` of the leader, ``state-0001.safetensors`` of rank 1.

    Raises:
        RecipeError: RC761, the disk is full or the folder cannot be written.
    """
    path = folder / ("state.safetensors" if ranks.leads else f"state-{ranks.rank:04d}.safetensors")
    if not (tensors or ranks.leads):
        return
    with disk_errors(folder):
        with disk_problems():
            save_file(dict(tensors), path)
        sync(path)


@contextmanager
def disk_problems() -> Iterator[None]:
    """Raise what safetensors and tokenizers say of a disk as the OSError that it was: both write in Rust."""
    try:
        yield
    except Exception as error:
        number = _OS_ERROR.search(str(error))
        if number is None or isinstance(error, OSError):
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def load_state(folder: Path) -> dict[str, Any]:
    """Read ``state.json`` and the tensors that all ranks wrote, on the CPU; they are whole, whoever wrote them.

    Raises:
        KeyError: a file of tensors is missing.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob("state*.safetensors")):
        tensors |= load_file(path)
    state = join_tensors(json.loads((folder / "state.json").read_text()), tensors)
    assert isinstance(state, dict)
    return state


def split_tensors(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Part nested data into JSON values and the tensors in it, which are copied to the CPU, by name.

    >>> split_tensors({"a": [1, torch.tensor(2)]})
    ({'a': [1, {'$tensor': '/a/1'}]}, {'/a/1': tensor(2)})
    """
    leaves: dict[str, Gathering] = {}
    plain, kept = _without_tensors(value, "", leaves), set[int]()
    return plain, {name: _on_cpu(full(leaf), kept) for name, leaf in leaves.items()}


def join_tensors(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo :func:`split_tensors`; tuples come back as lists."""
    if isinstance(value, dict):
        if set(value) == {_TENSOR}:
            return tensors[value[_TENSOR]]
        return {k: join_tensors(v, tensors) for k, v in value.items()}
    if isinstance(value, list):
        return [join_tensors(v, tensors) for v in value]
    return value


def _without_tensors(value: Any, path: str, leaves: dict[str, Gathering]) -> Any:
    """Move tensors out of nested data; a function of its own, since a closure that calls itself keeps them alive."""
    if isinstance(value, Tensor) or callable(value):
        leaves[path] = value
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        return {str(k): _without_tensors(v, f"{path}/{k}", leaves) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_tensors(v, f"{path}/{i}", leaves) for i, v in enumerate(value)]
    return value


def _on_cpu(tensor: Tensor, kept: set[int]) -> Tensor:
    """Return a tensor in the host's memory, where no other tensor of ``kept`` is."""
    copy = tensor.detach().cpu().contiguous()
    if copy.data_ptr() in kept:
        copy = copy.clone()
    kept.add(copy.data_ptr())
    return copy


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

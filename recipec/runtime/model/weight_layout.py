"""Where the weights of a policy are: whole in every process, or in shards over the ranks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
Gathering = Tensor | Callable[[], Tensor]
"""A tensor that may be a shard, or what makes it whole when called; either is a collective of all ranks."""


class WeightLayout:
    """Whole weights in this process; train engines that shard them put a layout of their own in its place."""

    collective = False
    """Whether every forward pass is one of all ranks together, so that each needs the same number."""

    def __init__(self, model: nn.Module) -> None:
        """Describe the weights of ``model``."""
        self.model = model

    def inside(self, function: Callable[[], T]) -> T:
        """Run a function that computes with the weights."""
        return function()

    def shape(self, tensor: Tensor) -> torch.Size:
        """Return the shape of a whole weight."""
        return tensor.shape

    def part(self, tensor: Tensor) -> Tensor:
        """Return what this process has of a weight, in the memory of the weight itself."""
        return tensor.detach()

    def joined(self, tensor: Tensor, part: Tensor) -> Tensor:  # noqa: ARG002 - shards may not know their whole
        """Return a tensor laid out like the weight ``tensor`` whole; a collective of all ranks."""
        return full(part)

    def gathering(self, tensor: Tensor, part: Tensor) -> Gathering:  # noqa: ARG002 - as above
        """Return what makes a tensor whole that is laid out like the weight ``tensor``, for a state to be saved."""
        return part

    def split(self, tensor: Tensor, whole: Tensor) -> Tensor:
        """Return what this process has of a whole tensor that is laid out like the weight ``tensor``."""
        return as_laid_out(whole, tensor)

    def put(self, tensor: Tensor, whole: Tensor) -> None:
        """Give a weight the values of a whole tensor.

        Raises:
            ValueError: the tensor has another shape; a copy would repeat its values.
        """
        if whole.shape != self.shape(tensor):
            raise ValueError(f"a tensor has the shape {tuple(whole.shape)} in place of {tuple(self.shape(tensor))}")
        self.part(tensor).copy_(self.split(tensor, whole))

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight whole, tied ones as one tensor under all of their names; a collective of all ranks."""
        state = self.model.state_dict(keep_vars=True)
        names = Counter(id(tensor) for tensor in state.values())
        shared: dict[int, Tensor] = {}
        for name, tensor in state.items():
            whole = shared[id(tensor)] if id(tensor) in shared else self.joined(tensor, self.part(tensor))
            if names[id(tensor)] > 1:
                shared[id(tensor)] = whole
            yield name, whole

    def gathered(self, *, keep: bool) -> dict[str, Tensor]:
        """Return every weight whole in the host's memory, tied ones as one tensor; empty without ``keep``."""
        tensors: dict[str, Tensor] = {}
        first: dict[int, str] = {}
        own = self.model.state_dict(keep_vars=True)
        for name, tensor in self.weights():
            other = first.setdefault(id(own[name]), name)
            if keep:
                tensors[name] = tensors[other] if other in tensors else tensor.cpu()
        return tensors

    @contextmanager
    def with_parameters(self, copies: Mapping[str, Tensor]) -> Iterator[None]:
        """Compute with ``copies`` in place of the parameters of those names; no gradients pass through here."""
        parameters = dict(self.model.named_parameters())
        own = {name: parameters[name].data for name in copies}
        try:
            for name, tensor in copies.items():
                parameters[name].data = tensor
            yield
        finally:
            for name, tensor in own.items():
                parameters[name].data = tensor


class Entry(nn.Module):
    """The root of a model that a library shards: its forward pass is any function that computes with the model."""

    def __init__(self, model: nn.Module) -> None:
        """Stand around ``model``."""
        super().__init__()
        self.model = model

    def forward(self, function: Callable[[], T]) -> T:
        """Run a function while the library gathers what it needs."""
        return function()


def full(tensor: Gathering) -> Tensor:
    """Return a tensor whole, gathered where it is a shard."""
    if not isinstance(tensor, Tensor):
        return tensor()
    return tensor.full_tensor() if _sharded(tensor) else tensor  # type: ignore[attr-defined]


def largest(tensors: Iterable[Tensor]) -> float:
    """Return the largest absolute value of tensors, of all their shards; not finite where a value is not.

    >>> largest([torch.tensor([1.0, -3.0]), torch.tensor([2.0])]), largest([torch.tensor([math.nan])])
    (3.0, inf)
    """
    from torch.distributed.tensor import DTensor, Partial  # noqa: PLC0415 - as below

    tensors = [tensor.detach() for tensor in tensors]
    shards = [tensor for tensor in tensors if isinstance(tensor, DTensor)]
    own = [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
    own = [tensor for tensor in own if tensor.numel()]  # a rank may have nothing of a tensor with fewer rows than ranks
    norm = torch.nn.utils.get_total_norm(own, math.inf) if own else torch.zeros(())
    norm = norm.float().nan_to_num(nan=math.inf, posinf=math.inf)  # maxima over ranks do not keep NaN
    if not shards:
        return float(norm)
    mesh = shards[0].device_mesh
    return float(DTensor.from_local(norm.to(shards[0].device), mesh, [Partial("max")] * mesh.ndim).full_tensor())


def in_parts(tensor: Gathering) -> bool:
    """Whether this process has only a part of a tensor."""
    return not isinstance(tensor, Tensor) or _sharded(tensor)


def _sharded(tensor: Tensor) -> bool:
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - a second that one process need not pay

    return isinstance(tensor, DTensor)


def as_laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor laid out as ``like``: its own shard where that is one."""
    from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: PLC0415 - as above

    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)

"""Where the weights of a policy are: whole in every process, or in shards over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn

T = TypeVar("T")


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

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight whole, tied ones under all of their names; a collective of all ranks."""
        for name, tensor in self.model.state_dict().items():
            yield name, tensor.detach()

    def gathered(self, *, keep: bool) -> dict[str, Tensor]:
        """Return every weight whole in the host's memory, tied ones as one tensor; empty without ``keep``."""
        found: dict[str, Tensor] = {}
        first: dict[int, str] = {}
        own = self.model.state_dict(keep_vars=True)
        for name, tensor in self.weights():
            other = first.setdefault(id(own[name]), name)
            if keep:
                found[name] = found[other] if other in found else tensor.cpu()
        return found

    @contextmanager
    def replaced(self, copies: Mapping[str, Tensor]) -> Iterator[None]:
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


def whole(value: Any) -> Any:
    """Return nested data with every shard gathered; a collective of all ranks, in the order of the data."""
    if isinstance(value, Tensor):
        return full(value)
    if isinstance(value, Mapping):
        return {name: whole(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(inner) for inner in value]
    return value


def full(tensor: Tensor) -> Tensor:
    """Return a tensor whole, gathered where it is a shard."""
    from torch.distributed.tensor import DTensor  # noqa: PLC0415 - a second that one process need not pay

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def as_laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor laid out as ``like``: its own shard where that is one."""
    from torch.distributed.tensor import DTensor, distribute_tensor  # noqa: PLC0415 - as above

    if isinstance(like, DTensor):
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)
    return tensor.to(like.device)

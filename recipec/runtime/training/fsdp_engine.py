"""The training engine of PyTorch's FSDP2: weights, gradients and optimizer state in shards over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from recipec.runtime.distributed.load_balancing import Assignment
from recipec.runtime.model.weight_layout import Entry, WeightLayout
from recipec.runtime.protocols import Policy
from recipec.runtime.training.local_engine import LocalEngine
from recipec.runtime.training.optimizer import AdamW
from recipec.spec.train_engine import Fsdp as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

T = TypeVar("T")


class FsdpEngine(LocalEngine):
    """Train with FSDP2; see :class:`recipec.spec.train_engine.Fsdp`.

    The optimizer is the one of ``local``: its moments and float32 copies are shards because the parameters are.
    """

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy, optimizer: AdamW) -> None:
        """Spread the weights of ``policy`` over the ranks; one rank alone trains like ``local``."""
        super().__init__(spec, context, policy=policy, optimizer=optimizer)
        if context.ranks.size > 1:
            policy.layout = ShardedWeights(policy.model, spec, context.ranks.size)

    def reduce(self, assignments: Sequence[Sequence[Assignment]]) -> None:
        """Do nothing: the backward passes have added the gradients up."""
        if not self.policy.layout.collective:
            super().reduce(assignments)


class ShardedWeights(WeightLayout):
    """Weights as DTensors, gathered a block at a time when a pass needs them."""

    collective = True

    def __init__(self, model: nn.Module, spec: Spec, size: int) -> None:
        """Shard every block of ``model``, then what is outside of blocks."""
        super().__init__(model)
        device = next(model.parameters()).device.type
        mesh = init_device_mesh(device, (size,))
        precision = MixedPrecisionPolicy(reduce_dtype=getattr(torch, spec.reduce_dtype))
        offload = CPUOffloadPolicy() if spec.offload and device != "cpu" else OffloadPolicy()
        self.entry = Entry(model)
        for module in (*blocks(model), self.entry):
            # gathered weights are freed after each pass, so that no component takes them for the shards
            fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=precision, offload_policy=offload)
        for part in (module for module in self.entry.modules() if isinstance(module, FSDPModule)):
            # a micro-batch's loss is its share of the whole minibatch, so gradients are summed and not averaged
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)

    def inside(self, function: Callable[[], T]) -> T:
        """Run a function inside the forward pass of the sharded model."""
        result: T = self.entry(function)
        return result

    @contextmanager
    def with_parameters(self, copies: Mapping[str, Tensor]) -> Iterator[None]:
        """Compute with ``copies``, shards like the parameters of those names; no gradients pass through here."""
        parameters = dict(self.model.named_parameters())
        own = {name: _local(parameters[name]).clone() for name in copies}
        try:
            for name, tensor in copies.items():
                _local(parameters[name]).copy_(_local(tensor))
            yield
        finally:
            for name, tensor in own.items():
                _local(parameters[name]).copy_(tensor)


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a model's stacks, not those inside of other layers.

    >>> [type(block).__name__ for block in blocks(nn.Sequential(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])))]
    ['Linear', 'Linear']
    """
    stacked: list[nn.Module] = []
    inside: set[int] = set()
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and id(module) not in inside:
            layers = [layer for layer in module if any(True for _ in layer.parameters())]
            stacked += layers
            inside |= {id(inner) for layer in layers for inner in layer.modules()}
    return stacked


def _local(tensor: Tensor) -> Tensor:
    """Return this rank's part of a tensor, in the memory of the tensor itself."""
    local: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.detach()

"""Training engines: who takes the updates, and over how many devices."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, component, param


class TrainEngine(Component):
    """Base class of training engines; the facts below are what checks and plans read."""

    slot: ClassVar[str] = "train_engine"
    max_devices: ClassVar[int | None] = None
    """Most devices that it uses; ``None`` for any number."""

    def recomputes_activations(self) -> bool:
        """Whether the backward pass computes activations again instead of keeping them."""
        return False

    def partitions(self, devices: int) -> tuple[int, int, int]:  # noqa: ARG002 - an engine that shards reads it
        """Return over how many devices the optimizer's state, the gradients and the weights are sharded.

        >>> Deepspeed(zero=2).partitions(8), Local().partitions(1)
        ((8, 8, 1), (1, 1, 1))
        """
        return 1, 1, 1

    def offloads_optimizer(self) -> bool:
        """Whether the optimizer's state lies in the host's memory."""
        return False

    def sequence_partitions(self) -> int:
        """Return over how many devices the tokens of one sequence are spread."""
        return 1


@component("train_engine", impl="recipec.runtime.training.local:LocalEngine", uses=("policy", "optimizer"))
class Local(TrainEngine):
    """Train in this process on one device.

    References:
        Paszke et al., `PyTorch <https://arxiv.org/abs/1912.01703>`_, 2019.
    """

    max_devices: ClassVar[int | None] = 1

    type: Literal["local"] = "local"
    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass to save memory.")

    def recomputes_activations(self) -> bool:
        """Whether `gradient_checkpointing` is on."""
        return self.gradient_checkpointing


@component("train_engine", uses=("policy", "optimizer"))
class Deepspeed(TrainEngine):
    """Train with DeepSpeed on several devices."""

    type: Literal["deepspeed"] = "deepspeed"
    zero: Literal[0, 1, 2, 3] = param(2, "ZeRO stage.")
    offload: bool = param(False, "Keep the optimizer state in CPU memory.")
    sequence_parallel: int = param(1, "Number of devices that share the tokens of a sequence.", ge=1)
    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass to save memory.")

    def recomputes_activations(self) -> bool:
        """Whether `gradient_checkpointing` is on."""
        return self.gradient_checkpointing

    def partitions(self, devices: int) -> tuple[int, int, int]:
        """Shard the optimizer's state from ZeRO stage 1 on, the gradients from 2, the weights in 3."""
        optimizer, gradients, weights = (devices if self.zero >= stage else 1 for stage in (1, 2, 3))
        return optimizer, gradients, weights

    def offloads_optimizer(self) -> bool:
        """Whether `offload` is on."""
        return self.offload

    def sequence_partitions(self) -> int:
        """Return `sequence_parallel`."""
        return self.sequence_parallel

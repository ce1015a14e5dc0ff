"""Training engines: who takes the updates, and over how many devices."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from recipec.component import Component, component, param

MAX_LIVE_PARAMETERS = 1_000_000_000
"""Parameters that DeepSpeed keeps gathered in ZeRO stage 3: its default, `stage3_max_live_parameters`."""
BUCKET = 500_000_000
"""Gradients that DeepSpeed sums at once: its default, `reduce_bucket_size`."""


class TrainEngine(Component):
    """Base class of training engines; the facts below are what checks and plans read."""

    slot: ClassVar[str] = "train_engine"
    spreads_sequences: ClassVar[bool] = False
    """Whether a run spreads the tokens of a sequence over devices; otherwise it is planned alone."""
    max_devices: ClassVar[int | None] = None
    """Most devices that it uses; ``None`` for any number."""
    trains_several: ClassVar[bool] = True
    """Whether a stage may train a second model, a critic, by another instance of it."""

    def recomputes_activations(self) -> bool:
        """Whether the backward pass computes activations again instead of keeping them."""
        return False

    def partitions(self, devices: int) -> tuple[int, int, int]:  # noqa: ARG002 - an engine that shards reads it
        """Return over how many devices the optimizer's state, the gradients and the weights are sharded.

        >>> Deepspeed(zero=2).partitions(8), Fsdp().partitions(8), Local().partitions(8)
        ((8, 8, 1), (8, 8, 8), (1, 1, 1))
        """
        return 1, 1, 1

    def offloads_optimizer(self) -> bool:
        """Whether the optimizer's state is in the host's memory."""
        return False

    def offloads_parameters(self) -> bool:
        """Whether the weights are in the host's memory between uses."""
        return False

    def hands_over(self, devices: int) -> bool:
        """Return whether the micro-batches of a device hand shared prefixes over: where it has the whole policy.

        >>> Local().hands_over(8), Fsdp().hands_over(8), Fsdp().hands_over(1)
        (True, False, True)
        """
        return max(self.partitions(devices)) == 1 and not (self.offloads_optimizer() or self.offloads_parameters())

    def sequence_partitions(self) -> int:
        """Return over how many devices the tokens of one sequence are spread."""
        return 1

    def gathered_weights(self, layer: int, root: int) -> int:  # noqa: ARG002 - an engine that shards reads it
        """Return how many parameters of weights that are spread are whole on a device at once.

        ``layer`` are those of one decoder layer, ``root`` those of embeddings and head.

        >>> Fsdp().gathered_weights(10, 3), Deepspeed(zero=3).gathered_weights(10, 3)
        (23, 1000000000)
        """
        return 0

    def buffered_gradients(self, layer: int) -> int:  # noqa: ARG002 - an engine that shards reads it
        """Return how many parameters have a gradient in the buffers in which devices sum them."""
        return 0

    def alternatives(self) -> "tuple[tuple[str, int, TrainEngine], ...]":
        """Return what `auto` stands for, the best first: the parameter, its value, and the engine with it.

        >>> [(name, value) for name, value, _ in Deepspeed(zero="auto").alternatives()], Fsdp().alternatives()
        ([('zero', 1), ('zero', 2), ('zero', 3)], ())
        """
        return ()

    def leaner(self, devices: int) -> "tuple[str, TrainEngine] | None":  # noqa: ARG002 - what shards reads it
        """Return the next change that saves memory, as the recipe would say it, and the engine with it.

        >>> Deepspeed(zero=2, gradient_checkpointing=True).leaner(8)[0], Local(gradient_checkpointing=True).leaner(1)
        ('zero: 3', None)
        """
        return None


class _Checkpointing(TrainEngine):
    """Base class of training engines that can compute activations twice."""

    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass to save memory.")

    def recomputes_activations(self) -> bool:
        """Whether `gradient_checkpointing` is on."""
        return self.gradient_checkpointing

    def leaner(self, devices: int) -> "tuple[str, TrainEngine] | None":
        """Recompute activations, then whatever the engine has."""
        if not self.gradient_checkpointing:
            return "gradient_checkpointing: true", self.model_copy(update={"gradient_checkpointing": True})
        return self._leaner(devices)

    def _leaner(self, devices: int) -> "tuple[str, TrainEngine] | None":  # noqa: ARG002 - what shards reads it
        return None


class _Sharding(_Checkpointing):
    """Base class of training engines that spread the policy over devices."""

    preflight: ClassVar[str] = "recipec.runtime.training.sequences:check"

    sequence_parallel: int = param(
        1,
        "Number of devices that share the tokens of a sequence; with attention `packed` or `dense`.",
        unit="devices",
        ge=1,
    )

    def sequence_partitions(self) -> int:
        """Return `sequence_parallel`."""
        return self.sequence_parallel


@component("train_engine", impl="recipec.runtime.training.local_engine:LocalEngine", uses=("policy", "optimizer"))
class Local(_Checkpointing):
    """Train with PyTorch; each of several devices has the whole policy and takes a share of the micro-batches.

    References:
        Paszke et al., `PyTorch <https://arxiv.org/abs/1912.01703>`_, 2019.
        Li et al., `PyTorch Distributed <https://arxiv.org/abs/2006.15704>`_, 2020, for data parallelism.
    """

    type: Literal["local"] = "local"

    def _leaner(self, devices: int) -> "tuple[str, TrainEngine] | None":
        """Spread the policy where there are several devices."""
        return ("type: fsdp", Fsdp(gradient_checkpointing=True)) if devices > 1 else None


@component("train_engine", impl="recipec.runtime.training.fsdp_engine:FsdpEngine", uses=("policy", "optimizer"))
class Fsdp(_Sharding):
    """Train with PyTorch's FSDP2, which spreads weights, gradients and optimizer state over all devices.

    The weights of a layer are gathered when they are used. The optimizer updates float32 copies of narrower shards.

    References:
        Zhao et al., `PyTorch FSDP <https://arxiv.org/abs/2304.11277>`_, 2023.
    """

    spreads_sequences: ClassVar[bool] = True

    type: Literal["fsdp"] = "fsdp"
    reduce_dtype: Literal["float32", "bfloat16"] = param("float32", "Data type in which devices sum their gradients.")
    offload: bool = param(False, "Keep weights, gradients and optimizer state in CPU memory between uses.")

    def partitions(self, devices: int) -> tuple[int, int, int]:
        """Shard everything over all devices."""
        return devices, devices, devices

    def gathered_weights(self, layer: int, root: int) -> int:
        """Count the layer that computes, the next one, and the root, which stays gathered."""
        return 2 * layer + root

    def buffered_gradients(self, layer: int) -> int:
        """Count the layer of which gradients are summed."""
        return layer

    def _leaner(self, devices: int) -> "tuple[str, TrainEngine] | None":  # noqa: ARG002 - not needed
        return None if self.offload else ("offload: true", self.model_copy(update={"offload": True}))

    def offloads_optimizer(self) -> bool:
        """Whether `offload` is on."""
        return self.offload

    def offloads_parameters(self) -> bool:
        """Whether `offload` is on."""
        return self.offload


@component(
    "train_engine", impl="recipec.runtime.training.deepspeed_engine:DeepspeedEngine", uses=("policy", "optimizer")
)
class Deepspeed(_Sharding):
    """Train with DeepSpeed, which spreads optimizer state, gradients and weights over devices by ZeRO stage.

    References:
        Rajbhandari et al., `ZeRO <https://arxiv.org/abs/1910.02054>`_, 2019.
    """

    packages: ClassVar[Mapping[str, str]] = {"deepspeed": "deepspeed"}
    extra: ClassVar[str] = "deepspeed"
    trains_several: ClassVar[bool] = False

    type: Literal["deepspeed"] = "deepspeed"
    zero: Literal["auto", 1, 2, 3] = param(
        2,
        "ZeRO stage: optimizer state (1), also gradients (2), also weights (3) are spread over devices; `auto` is the "
        "lowest stage that fits on `machine.accelerator`.",
    )
    offload: bool = param(False, "Keep the optimizer state in CPU memory.")
    offload_parameters: bool = param(False, "Keep the weights in CPU memory between uses; with `zero: 3`.")

    def partitions(self, devices: int) -> tuple[int, int, int]:
        """Shard the optimizer's state from ZeRO stage 1 on, the gradients from 2, the weights in 3."""
        optimizer, gradients, weights = (devices if self.stage >= stage else 1 for stage in (1, 2, 3))
        return optimizer, gradients, weights

    @property
    def stage(self) -> int:
        """The ZeRO stage; of `auto`, the lowest that has what is set."""
        if isinstance(self.zero, str):
            return 3 if self.offload_parameters else 1
        return self.zero

    def alternatives(self) -> "tuple[tuple[str, int, TrainEngine], ...]":
        """Return the engine in each stage that `auto` may stand for."""
        stages = range(self.stage, 4) if isinstance(self.zero, str) else ()
        return tuple(("zero", stage, self.model_copy(update={"zero": stage})) for stage in stages)

    def _leaner(self, devices: int) -> "tuple[str, TrainEngine] | None":
        """Spread more, then keep more in CPU memory."""
        if self.stage < 3 and devices > 1:
            return f"zero: {self.stage + 1}", self.model_copy(update={"zero": self.stage + 1})
        if not self.offload:
            return "offload: true", self.model_copy(update={"offload": True})
        if not self.offload_parameters and self.stage == 3:
            return "offload_parameters: true", self.model_copy(update={"offload_parameters": True})
        return None

    def gathered_weights(self, layer: int, root: int) -> int:  # noqa: ARG002 - the bound is in parameters
        """Return the bound that DeepSpeed has on gathered parameters."""
        return MAX_LIVE_PARAMETERS

    def buffered_gradients(self, layer: int) -> int:  # noqa: ARG002 - the bound is in parameters
        """Return the size of the buffer in which DeepSpeed sums gradients."""
        return BUCKET

    def offloads_optimizer(self) -> bool:
        """Whether `offload` is on."""
        return self.offload

    def offloads_parameters(self) -> bool:
        """Whether `offload_parameters` is on."""
        return self.offload_parameters

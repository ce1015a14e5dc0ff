"""Hardware, engines and services; part of a run's identity, but not of the digests of its stages."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import SerializeAsAny

from recipec.component import Component, Section, component, param


class TrainEngine(Component):
    """Base class of training engines."""

    slot: ClassVar[str] = "machine"


class RolloutEngine(Component):
    """Base class of rollout engines."""

    slot: ClassVar[str] = "machine"


@component(
    "machine",
    impl="recipec.runtime.training.local:LocalEngine",
    uses=("policy", "optimizer"),
)
class Local(TrainEngine):
    """Train in this process on one device.

    References:
        Paszke et al., `PyTorch <https://arxiv.org/abs/1912.01703>`_, 2019.
    """

    type: Literal["local"] = "local"
    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass to save memory.")


@component(
    "machine",
    uses=("policy", "optimizer"),
)
class Deepspeed(TrainEngine):
    """Train with DeepSpeed on several devices."""

    type: Literal["deepspeed"] = "deepspeed"
    zero: Literal[0, 1, 2, 3] = param(2, "ZeRO stage.")
    offload: bool = param(False, "Keep the optimizer state in CPU memory.")
    sequence_parallel: int = param(1, "Number of devices that share the tokens of a sequence.", ge=1)
    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass to save memory.")


@component(
    "machine",
    impl="recipec.runtime.rollout.hf_engine:HfEngine",
    uses=("policy",),
)
class Hf(RolloutEngine):
    """Generate in this process with Transformers; the prompt of a group is computed once.

    References:
        Wolf et al., `Transformers <https://arxiv.org/abs/1910.03771>`_, 2020.
    """

    type: Literal["hf"] = "hf"
    max_rows: int = param(64, "Maximum number of sequences decoded together.", unit="sequences", ge=1)
    max_memory: float = param(
        2.0, "Maximum KV cache kept between the turns of episodes; the rest is recomputed.", unit="GiB", ge=0
    )


@component(
    "machine",
    uses=("policy",),
)
class Vllm(RolloutEngine):
    """Generate with vLLM."""

    type: Literal["vllm"] = "vllm"
    tensor_parallel: int = param(1, "Number of devices that share a model (tensor parallelism).", ge=1)


Engine = SerializeAsAny[Component]
ENGINES = {"train": ("local", "deepspeed"), "rollout": ("hf", "vllm")}
"""Components of the slot that are training engines and rollout engines; the first is the default."""


class Service(Section):
    """A network service that components refer to by its name."""

    url: str = param(..., "URL of the service.")


class Machine(Section):
    """Devices, engines and services."""

    device: Literal["auto", "cpu", "cuda"] = param("auto", "Device type; `auto` uses a GPU if there is one.")
    devices: int = param(1, "Number of devices.", ge=1)
    accelerator: Literal["a100", "h100", "h200", "l40s"] | None = param(
        None, "GPU model, used by `recipec plan` to estimate training time; ignored by `recipec run`."
    )
    threads: int | None = param(None, "Number of CPU threads of torch; 1 if omitted. Part of the run's identity.", ge=1)
    train: Engine = param(Local, "Training engine.")
    rollout: Engine = param(Hf, "Rollout engine.")
    services: dict[str, Service] = param(dict, "Network services by name.")

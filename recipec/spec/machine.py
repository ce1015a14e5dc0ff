"""On what a recipe runs; in no digest of meaning, but in the run's identity."""

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
    """Train in this process, on one device.

    References:
        Paszke et al., `PyTorch <https://arxiv.org/abs/1912.01703>`_, 2019.
    """

    type: Literal["local"] = "local"
    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass.")


@component(
    "machine",
    uses=("policy", "optimizer"),
)
class Deepspeed(TrainEngine):
    """Train under DeepSpeed on several devices."""

    type: Literal["deepspeed"] = "deepspeed"
    zero: Literal[0, 1, 2, 3] = param(2, "ZeRO stage.")
    offload: bool = param(False, "Keep optimizer state in host memory.")
    sequence_parallel: int = param(1, "Devices that the tokens of a row are spread over.", ge=1)
    gradient_checkpointing: bool = param(False, "Recompute activations in the backward pass.")


@component(
    "machine",
    impl="recipec.runtime.rollout.hf_engine:HfEngine",
    uses=("policy",),
)
class Hf(RolloutEngine):
    """Sample in this process with the model itself: a group's prompt is computed once.

    References:
        Wolf et al., `Transformers <https://arxiv.org/abs/1910.03771>`_, 2020.
    """

    type: Literal["hf"] = "hf"
    max_rows: int = param(64, "Rows decoded together at most.", unit="rows", ge=1)
    max_memory: float = param(
        2.0, "Keys and values kept between the turns of episodes; what does not fit is read again.", unit="GiB", ge=0
    )


@component(
    "machine",
    uses=("policy",),
)
class Vllm(RolloutEngine):
    """Sample with vLLM."""

    type: Literal["vllm"] = "vllm"
    tensor_parallel: int = param(1, "Devices a model is spread over.", ge=1)


Engine = SerializeAsAny[Component]
ENGINES = {"train": ("local", "deepspeed"), "rollout": ("hf", "vllm")}
"""Which components of the slot train and which sample; the first is the default."""


class Service(Section):
    """A service of the network that components may call by its name."""

    url: str = param(..., "Where it answers.")


class Machine(Section):
    """Devices, engines and services."""

    device: Literal["auto", "cpu", "cuda"] = param("auto", "Kind of device; `auto` takes a GPU where there is one.")
    devices: int = param(1, "How many.", ge=1)
    accelerator: Literal["a100", "h100", "h200", "l40s"] | None = param(
        None, "What the devices are, for the hours that `plan` estimates; a run does not look at it."
    )
    threads: int | None = param(None, "CPU threads of torch; part of the run's identity. One if absent.", ge=1)
    train: Engine = param(Local, "The training engine.")
    rollout: Engine = param(Hf, "The sampling engine.")
    services: dict[str, Service] = param(dict, "Services by name.")

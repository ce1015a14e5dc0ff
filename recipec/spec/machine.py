"""Hardware, engines and services; part of a run's identity, but not of the digests of its stages."""

from typing import Literal

from pydantic import SerializeAsAny

from recipec.component import Component, Section, param
from recipec.spec.rollout_engine import Hf
from recipec.spec.train_engine import Local

Engine = SerializeAsAny[Component]
ENGINE_SLOTS = {"train": "train_engine", "rollout": "rollout_engine"}
"""Keys of `machine` that hold an engine, and the slots that they fill."""


class Service(Section):
    """A network service that components refer to by its name."""

    url: str = param(..., "URL of the service.")
    key_variable: str | None = param(
        None,
        "Environment variable with the key of the service, sent as a bearer token. Its name begins with `RECIPEC_`, "
        "so that a recipe cannot send other secrets of your environment to a service that it names.",
        pattern=r"^RECIPEC_[A-Za-z0-9_]+$",
    )


class Machine(Section):
    """Devices, engines and services."""

    device: Literal["auto", "cpu", "cuda"] = param(
        "auto", "Device type; `auto` uses a GPU if there is one. There is no `mps`, which lacks float64."
    )
    devices: int = param(1, "Number of devices of a node; each trains and samples its share of a step.", ge=1)
    nodes: int = param(1, "Number of nodes, with `devices` devices each.", ge=1)
    launcher: Literal["torchrun", "ray", "slurm"] = param(
        "torchrun",
        "What starts the processes, one per device: `torchrun` on one node, `ray` or `slurm` on several.",
    )
    max_restarts: int = param(3, "How often a run that lost a process is started again from its last checkpoint.", ge=0)
    timeout: float = param(
        600.0,
        "Maximum time that a process waits for the others; longer than the slowest reward or environment step.",
        unit="seconds",
        gt=0,
    )
    exactness: Literal["rounding", "exact"] = param(
        "rounding",
        "Results of several devices: equal to those of one up to rounding, or bit for bit (`exact`), with the training "
        "engine `local`: gradients are then sent whole for each forward pass, and added in the order of one device.",
    )
    accelerator: Literal["a100", "h100", "h200", "l40s"] | None = param(
        None, "GPU model, used by `recipec plan` to estimate training time; ignored by `recipec run`."
    )
    threads: int | None = param(None, "Number of CPU threads of torch; 1 if omitted. Part of the run's identity.", ge=1)
    train: Engine = param(Local, "Training engine.")
    rollout: Engine = param(Hf, "Rollout engine.")
    services: dict[str, Service] = param(dict, "Network services by name.")


def default_engine(key: str) -> type[Component]:
    """Return the engine of a machine that names none.

    >>> default_engine("rollout").type_name
    'hf'
    """
    engine = Machine.model_fields[key].default_factory
    assert isinstance(engine, type)
    assert issubclass(engine, Component)
    return engine

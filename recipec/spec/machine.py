"""Hardware, engines and services; part of a run's identity, but not of the digests of its stages."""

from __future__ import annotations

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


def default_engine(key: str) -> type[Component]:
    """Return the engine of a machine that names none.

    >>> default_engine("rollout").type_name
    'hf'
    """
    found = Machine.model_fields[key].default_factory
    assert isinstance(found, type)
    assert issubclass(found, Component)
    return found

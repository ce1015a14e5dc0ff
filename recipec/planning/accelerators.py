"""Accelerators by name: what a plan turns operations and bytes into hours with."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Peak rates of one device, as its maker states them; ``source`` says where.

    Example: ``accelerator("h100").memory`` is 80e9 bytes.
    """

    title: str
    bfloat16: float
    """Dense matrix operations a second."""
    float32: float
    bandwidth: float
    """Bytes a second."""
    memory: float
    """Bytes."""
    link: float
    """Bytes a second that it receives from a device of the same node."""
    host: float
    """Bytes a second that it receives from the host's memory."""
    network: float
    """Bytes a second that it receives from another node."""
    source: str

    def peak(self, dtype: str) -> float:
        """Operations a second in a type of weights."""
        return self.float32 if dtype == "float32" else self.bfloat16


@functools.cache
def accelerators() -> dict[str, Accelerator]:
    """Return every accelerator that is known, by the name that `machine.accelerator` gives it.

    >>> sorted(accelerators())
    ['a100', 'h100', 'h200', 'l40s']
    """
    text = resources.files("recipec.planning").joinpath("accelerators.json").read_text(encoding="utf-8")
    return {name: Accelerator(**fields) for name, fields in json.loads(text).items()}

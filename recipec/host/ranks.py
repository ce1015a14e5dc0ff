"""The processes of one run: every rank walks the same graph; the leader, rank 0, alone writes into the run directory.

The variables by which launchers tell a process its place are read here and nowhere else.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT")
_SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
_PDEATHSIG = 1  # of prctl
_FIRST_HOST = re.compile(r"^([^,\[]+)(?:\[(\d+))?")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process stands among those of its run.

    Example: ``Place(rank=3, size=8, local=3, address="node-1", port=29500)``.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    """Rank on this machine: the number of its device."""
    address: str = "127.0.0.1"
    """Host of the leader."""
    port: int = 0
    hosted: bool = False
    """Whether the launcher keeps the store by which ranks find each other; else the leader does."""
    attempt: int = 0
    """How often the launcher has started the ranks again."""

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0


def place(variables: Mapping[str, str] | None = None) -> Place:
    """Read the place of this process: torchrun's variables, else those of a step of ``srun``; alone without either.

    >>> place({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29501"})
    Place(rank=1, size=2, local=1, address='a', port=29501, hosted=False, attempt=0)
    >>> place({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}).size  # the shell of a batch script is not a task
    1
    """
    environment = os.environ if variables is None else variables
    if "RANK" in environment and "WORLD_SIZE" in environment:
        rank, size, local, port = (int(environment.get(name, "0")) for name in _TORCHRUN)
        hosted = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        attempt = int(environment.get("TORCHELASTIC_RESTART_COUNT", "0"))
        return Place(rank, size, local, environment.get("MASTER_ADDR", "127.0.0.1"), port, hosted, attempt)
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        port = int(environment.get("MASTER_PORT") or 29500 + int(environment.get("SLURM_JOB_ID", "0")) % 1000)
        address = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", ""))
        rank, size, local = (int(environment[name]) for name in _SRUN)
        return Place(rank, size, local, address, port)
    return Place()


def end_with_parent(number: int) -> None:
    """Let this process get a signal when the one that started it ends; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, number)


def first_host(hosts: str) -> str:
    """Return the first of a list of hosts as Slurm writes it.

    >>> first_host("gpu[03-06,09]"), first_host("login,gpu1")
    ('gpu03', 'login')
    """
    match = _FIRST_HOST.match(hosts)
    return "127.0.0.1" if match is None else match[1] + (match[2] or "")


class Ranks:
    """What the processes of a run do together; this class is the run of one process, where nothing has to be done.

    All ranks call the same methods in the same order.
    """

    rank = 0
    size = 1
    local = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written once."""
        return self.rank == 0

    def on_leader(self, make: Callable[[], T]) -> T:
        """Let the leader compute a value of tensors and JSON values; all have it, or all raise what it raised."""
        return make()

    def all_gather(self, act: str, make: Callable[[], T]) -> list[T]:  # noqa: ARG002 - shown to other ranks
        """Let every rank compute a value of tensors and JSON values; return those of all ranks, by rank.

        Where one fails, all raise its error; ``act`` names what is computed.
        """
        return [make()]

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some rank."""
        return flag

    def all_reduce_sum(self, tensor: T) -> T:
        """Add up a tensor of every rank, in place."""
        return tensor

    def broadcast(self, tensor: T, rank: int) -> T:  # noqa: ARG002 - the only one has it
        """Send a tensor of one rank to all, in place."""
        return tensor

    def barrier(self) -> None:
        """Wait until all ranks are here."""

    def close(self) -> None:
        """Leave the group."""

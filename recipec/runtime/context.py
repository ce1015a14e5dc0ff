"""Where a stage runs: constants that every component of it may read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from recipec.host.ranks import Ranks


class StoppedBeforeFirstStep(Exception):  # noqa: N818 - not an error: the user wants it
    """The user stopped the run before the first step of the stage."""


def cache_folder() -> Path:
    """The user's cache folder, by the XDG rule."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recipec"


@dataclass(frozen=True, slots=True)
class StageContext:
    """Paths, seed, device and names of a stage; the same from its first step to its last.

    A class named by an ``impl`` is built as ``Class(spec, context, **parts)``, its parts being those that its spec
    ``uses``, and called with its columns.
    """

    root: Path
    """Folder of the recipe; paths in specs are relative to it."""
    cache: Path
    """Folder for what is expensive to make and safe to delete."""
    seed: int
    stage: str
    temperature: float = 1.0
    """Divides the logits in every log-probability of the stage."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: Ranks = field(default_factory=Ranks)
    """The processes of the run."""
    bitwise_reproducible: bool = False
    """Whether the result on several ranks is bit for bit that of one rank."""
    hands_over: bool = True
    """Whether micro-batches may hand shared prefixes over; the bits then depend on the number of ranks."""
    sharded: bool = False
    """Whether the train engine spreads the weights over ranks: whoever samples with the model then needs a copy."""
    sequence_parallel_size: int = 1
    """Number of ranks that share the tokens of one forward pass."""
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    """The user's own functions, where the command line allowed them."""
    use: Sequence[Path] = ()
    """The files that the command line allowed to run."""
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    """Folders of earlier artifacts: ``explore.rollouts`` to a path."""
    services: Mapping[str, str] = field(default_factory=dict)
    """URLs of the services under ``machine.services``, by name."""
    service_keys: Mapping[str, str] = field(default_factory=dict)
    """Environment variables with their keys, by name, for those that have one."""
    home: Path | None = None
    """Folder of the stage, for what must survive a kill before the first step; kept in memory alone if None."""
    begun: str = ""
    """When the run began, as ISO 8601: what clocks in chat templates show, also in a continued run."""
    say: Callable[[str], None] = lambda _: None
    """Print a line to whoever watches the run."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the user wants the run to stop; read between samplings before the first step."""

    @property
    def data_parallel_size(self) -> int:
        """Number of sequence-parallel groups; each computes forward passes of its own."""
        return self.ranks.size // self.sequence_parallel_size

    @property
    def data_parallel_rank(self) -> int:
        """Number of this rank's sequence-parallel group, from 0."""
        return self.ranks.rank // self.sequence_parallel_size

    @property
    def is_sequence_parallel_leader(self) -> bool:
        """Whether this rank reports the results of its sequence-parallel group."""
        return self.ranks.rank % self.sequence_parallel_size == 0

"""How long phases take on a named accelerator: the larger of what its arithmetic and what its memory allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from recipec.planning.accelerators import Accelerator
from recipec.planning.communication import Exchange
from recipec.planning.cost import Phase

COMPUTE = 0.4
"""Share of the peak rate that training is taken to reach: ours, not measured here."""
READ = 0.6
"""Share of the peak bandwidth that decoding is taken to reach: ours, not measured here."""
LINK = 0.7
"""Share of the bandwidth between devices that exchanges are taken to reach: ours, not measured here."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Devices of one kind.

    Example: ``Pace(accelerators()["h100"], 8, 1, "bfloat16")``.
    """

    accelerator: Accelerator
    devices: int
    """Of a node."""
    nodes: int
    dtype: str

    @property
    def link(self) -> float:
        """Bytes a second that a device receives from the others: over the network where there are several nodes."""
        return self.accelerator.network if self.nodes > 1 else self.accelerator.link

    @property
    def assumes(self) -> str:
        """The assumptions behind the hours."""
        one, many = self.accelerator, self.devices * self.nodes
        between = f", {LINK:.0%} of {self.link / 1e9:g} GB/s between devices" if many > 1 else ""
        return (
            f"{many} x {one.title}: {COMPUTE:.0%} of {one.peak(self.dtype) / 1e12:g} TFLOP/s, "
            f"{READ:.0%} of {one.bandwidth / 1e12:g} TB/s{between}, shares that we assume; without the environment, "
            "evaluations and checkpoints"
        )

    def seconds(self, phase: Phase) -> float | None:
        """Return how long a phase takes; None where its work is unknown."""
        if phase.flops is None or phase.bytes is None:
            return None
        compute_seconds = phase.flops / (self.accelerator.peak(self.dtype) * COMPUTE)
        read_seconds = phase.bytes / (self.accelerator.bandwidth * READ)
        return max(compute_seconds, read_seconds) / ((phase.devices or self.devices * self.nodes) * (1 - phase.idle))


def timed(phases: Iterable[Phase], pace: Pace | None) -> Iterator[Phase]:
    """Yield the phases with their times, where there is a pace."""
    for phase in phases:
        yield phase if pace is None else replace(phase, seconds=pace.seconds(phase))


def moved(exchanges: Iterable[Exchange], pace: Pace | None) -> Iterator[Exchange]:
    """Yield the exchanges with their times, where there is a pace."""
    for one in exchanges:
        if pace is None:
            yield one
            continue
        rate = pace.accelerator.host if one.host else pace.accelerator.network if one.network else pace.link
        yield replace(one, seconds=one.bytes / (rate * LINK))


@dataclass(frozen=True, slots=True)
class Schedule:
    """How sampling in servers and the rest of a step follow each other; all times in seconds.

    Example: ``Schedule(12.0, 20.0, ahead=1).step``: 20 seconds, in which servers wait 8.
    """

    sampling: float
    rest: float
    """Scores, updates and exchanges."""
    ahead: int = 0
    """Steps by which rollouts are sampled ahead; without any, servers and training take turns."""

    @property
    def step(self) -> float:
        """Return how long a step lasts.

        >>> Schedule(12.0, 20.0).step, Schedule(12.0, 20.0, ahead=1).step
        (32.0, 20.0)
        """
        return max(self.sampling, self.rest) if self.ahead else self.sampling + self.rest

    @property
    def waits(self) -> tuple[float, float]:
        """Return the shares of a step in which servers, and devices that train, wait for the other side.

        >>> Schedule(10.0, 30.0).waits, Schedule(30.0, 15.0, ahead=1).waits
        ((0.75, 0.25), (0.0, 0.5))
        """
        step = self.step or 1.0
        return 1 - self.sampling / step, 1 - self.rest / step


def clock(seconds: float) -> str:
    """Write a time for people.

    >>> clock(0.4), clock(75), clock(7300), clock(400000)
    ('0.4 s', '75 s', '122 min', '111 h')
    """
    minute, hour = 60, 3600
    if seconds < 2 * minute:
        return f"{seconds:.3g} s"
    return f"{seconds / minute:.0f} min" if seconds < 3 * hour else f"{seconds / hour:.0f} h"

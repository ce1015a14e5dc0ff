"""How long phases take on a named accelerator: the larger of what its arithmetic and what its memory allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from recipec.planning.accelerators import Accelerator
from recipec.planning.cost import Phase

COMPUTE = 0.4
"""Share of the peak rate that training is taken to reach: ours, not measured here."""
READ = 0.6
"""Share of the peak bandwidth that decoding is taken to reach: ours, not measured here."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Devices of one kind.

    Example: ``Pace(accelerators()["h100"], 8, "bfloat16")``.
    """

    accelerator: Accelerator
    devices: int
    dtype: str

    @property
    def assumes(self) -> str:
        """What the hours rest on."""
        return (
            f"{self.devices} x {self.accelerator.title}: {COMPUTE:.0%} of {self.accelerator.peak(self.dtype) / 1e12:g} "
            f"TFLOP/s, {READ:.0%} of {self.accelerator.bandwidth / 1e12:g} TB/s, shares of ours; without the network "
            "between devices, the environment, evaluations and checkpoints"
        )

    def seconds(self, phase: Phase) -> float | None:
        """Return how long a phase takes; None where its work is unknown."""
        if phase.flops is None or phase.bytes is None:
            return None
        compute = phase.flops / (self.accelerator.peak(self.dtype) * COMPUTE)
        return max(compute, phase.bytes / (self.accelerator.bandwidth * READ)) / self.devices


def timed(phases: Iterable[Phase], pace: Pace | None) -> Iterator[Phase]:
    """Yield the phases with their times, where there is a pace."""
    for phase in phases:
        yield phase if pace is None else replace(phase, seconds=pace.seconds(phase))


def clock(seconds: float) -> str:
    """Write a time for people.

    >>> clock(0.4), clock(75), clock(7300), clock(400000)
    ('0.4 s', '75 s', '122 min', '111 h')
    """
    minute, hour = 60, 3600
    if seconds < 2 * minute:
        return f"{seconds:.3g} s"
    return f"{seconds / minute:.0f} min" if seconds < 3 * hour else f"{seconds / hour:.0f} h"

r"""What devices send each other in a step, and how long they wait for each other.

Of B bytes of weights or gradients that are spread over n devices, each device receives :math:`B (n - 1) / n` bytes to
gather or to sum them, and twice as many to sum what is not spread.  A step of m forward passes that are dealt to n
devices takes :math:`\lceil m / n \rceil` rounds, in each of which weights that are spread are gathered once without
and twice with a backward pass.

References:
    Rajbhandari et al., `ZeRO <https://arxiv.org/abs/1910.02054>`_, 2019, section 7, for the volumes.
    Jacobs et al., `DeepSpeed Ulysses <https://arxiv.org/abs/2309.14509>`_, 2023, section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from recipec.planning.cost import Phase
from recipec.planning.stage_workload import StageWorkload


@dataclass(frozen=True, slots=True)
class Exchange:
    """What each device receives from others in a step.

    Example: ``Exchange("gather weights", 1.2e11, "6 times in 2 rounds")``.
    """

    name: str
    bytes: float
    assumes: str
    seconds: float | None = None
    """Where the recipe names an accelerator; as if nothing were computed meanwhile."""
    host: bool = False
    """Whether it goes to the host's memory and back, not to other devices."""
    network: bool = False
    """Whether it goes over the network, whatever the number of nodes."""


def forward_rounds(work: StageWorkload, phase: Phase) -> int:
    """Return how many forward passes each device makes in one pass over the rows of a step."""
    if not phase.tokens:
        return 0
    often = work.passes if phase.name == "update" else 1
    cut = work.minibatches if phase.name == "update" else 1
    each = math.ceil(phase.tokens / often / cut / work.microbatch)
    return cut * math.ceil(each / work.data_parallel_size)


def with_idle_share(work: StageWorkload, phases: Iterable[Phase]) -> Iterator[Phase]:
    """Yield the phases with the share of the devices' time in which they wait: where work does not divide evenly.

    Rollouts are dealt by whole prompts.  Forward passes are cut until each device has one, as long as there are rows.
    """
    for phase in phases:
        if phase.name == "sample" and work.size.units:
            yield replace(phase, idle=idle_share(work.size.units, work.rollout_engines))
        elif (turns := forward_rounds(work, phase)) and work.data_parallel_size > 1:
            groups = work.data_parallel_size
            yield replace(phase, idle=idle_share(min(turns * groups, work.size.rows), groups))
        else:
            yield phase


def idle_share(pieces: int, devices: int) -> float:
    """Return the share of the time that devices wait, where pieces of like cost are dealt to them.

    >>> idle_share(8, 8), idle_share(9, 8), idle_share(4, 8)
    (0.0, 0.4375, 0.5)
    """
    return 1 - pieces / (devices * math.ceil(pieces / devices)) if pieces else 0.0


def exchanges(work: StageWorkload, phases: Sequence[Phase]) -> Iterator[Exchange]:
    """Yield what each device receives in a step from others, and what it exchanges with the host's memory."""
    turns = {phase.name: forward_rounds(work, phase) for phase in phases}
    updates = turns.get("update", 0) * work.passes
    scored = sum(count for name, count in turns.items() if name in {"old", "reference"})
    _, gradients, weights = work.partition_counts
    updates_taken = work.minibatches * work.passes
    if work.rollout.apart() and work.samples:
        yield _to_servers(work)
    if work.ranks == 1:
        yield from _offloaded(work, 2 * updates + scored, updates, updates_taken)
        return
    part = (work.ranks - 1) / work.ranks
    gathered_bytes = work.weight_bytes * part
    if weights > 1 and (often := 2 * updates + scored):
        yield Exchange("gather weights", gathered_bytes * often, f"{often:,} times: {_rounds(updates, scored)}")
    each = work.trainable_bytes * part
    if gradients > 1:
        yield Exchange("sum gradients", each * updates, f"in each of {updates:,} passes with a backward")
        if weights == 1:
            yield Exchange("updated weights", each * updates_taken, f"{updates_taken:,} updates, each device its share")
    else:
        yield Exchange("sum gradients", 2 * each * updates_taken, f"{updates_taken:,} updates, all of them")
    if work.samples and weights > 1 and not work.rollout.apart():
        to = "the sampling engine" if work.tensor_parallel_size else "the copy that samples"
        moved = work.trainable_bytes * part if work.lora and work.tensor_parallel_size else gathered_bytes
        yield Exchange("update sampler", moved, f"to {to}, once")
    yield from _offloaded(work, 2 * updates + scored, updates, updates_taken)
    if (spread := work.train.sequence_partitions()) > 1:
        yield _sequences(work, phases, spread)


def _to_servers(work: StageWorkload) -> Exchange:
    """Count what servers read after an update: weights, or the adapter alone."""
    every = max(1, work.staleness)
    copied = work.rollout_weight_bytes * max(1, work.tensor_parallel_size)
    moved = work.trainable_bytes if work.lora else copied
    what = "the adapter as a file" if work.lora else "weights as files"
    often = "once" if every == 1 else f"every {every} steps"
    note = f"{what} to each of {work.rollout_engines} servers, {often}"
    return Exchange("update servers", moved / every, note, network=True)


def _offloaded(work: StageWorkload, gathered: int, updates: int, updates_taken: int) -> Iterator[Exchange]:
    """Count what is in the host's memory: weights for each use, gradients and updated weights of each update."""
    moments, gradients, weights = work.partition_counts
    if work.train.offloads_parameters():
        moved = work.weight_bytes / weights * gathered + work.trainable_bytes / gradients * updates
        yield Exchange("host memory", moved, f"weights {gathered:,} times, gradients {updates:,} times", host=True)
    elif work.train.offloads_optimizer():
        what = f"gradients and weights of {updates_taken:,} updates"
        yield Exchange("host memory", 2.0 * work.trainable_bytes / moments * updates_taken, what, host=True)


def _rounds(updates: int, scored: int) -> str:
    what = f"forward and backward of {updates:,} passes"
    return what + (f", and {scored:,} passes without a gradient" if scored else "")


def _sequences(work: StageWorkload, phases: Sequence[Phase], spread: int) -> Exchange:
    """Count queries, keys, values and results of attention, which change places between tokens and heads."""
    shape = work.shape
    each = shape.layers * 2 * shape.head_dim * (shape.heads + shape.kv_heads) * work.dtype_bytes * (spread - 1) / spread
    often = {"update": 2.0 + work.extra_forward_passes, "old": 1.0, "reference": 1.0}
    tokens = sum((phase.tokens or 0) * often.get(phase.name, 0.0) for phase in phases)
    return Exchange("attention", each * tokens / work.ranks, f"heads for tokens, in groups of {spread} devices")

r"""How long the phases of a stage take on this machine, from one layer of its model that was timed on it.

With L layers, T tokens, M rows of logits and Q trained parameters, updates take

.. math:: L T t_{layer} + M t_{head} + N t_{ends} + 48 Q / b

in N passes; the layer that is timed has the stage's adapter, and where layers are computed again, its forward pass is
added.  Sampling takes a forward pass over the prompts, then :math:`L t_{token} + t_{ends}` for every token of the rows
that are decoded together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from recipec.planning.cost import Phase
from recipec.planning.plan import Plan, StagePlan
from recipec.planning.stage_workload import StageWorkload

OPTIMIZER = 48
"""Bytes written and read for a trained parameter in an update: gradient, norm, moments, weight."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured for one model on this machine, in seconds.

    Example: ``Rates("cpu", 1, trained=8e-6, read=2e-6, decoded=2e-4, trained_ends=1e-3, read_ends=5e-4,
    decoded_ends=1e-3, trained_logits=1e-6, scored_logits=4e-7, bandwidth=2e10)``.
    """

    device: str
    threads: int
    trained: float
    """A layer for a token of a forward and backward pass."""
    read: float
    """A layer for a token of a forward pass."""
    decoded: float
    """A layer for the next token of all rows that are decoded together."""
    trained_ends: float
    """What a forward and backward pass costs besides layers and head."""
    read_ends: float
    """What a forward pass costs besides."""
    decoded_ends: float
    """What a token of all rows costs besides: the head, and the draw."""
    trained_logits: float
    """The head for a token of a forward and backward pass."""
    scored_logits: float
    """The head for a token of a forward pass."""
    bandwidth: float
    """Bytes a second, written or read."""

    @property
    def basis(self) -> str:
        """What a time by these rates rests on."""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.device == "cpu" else ""
        return (
            f"one layer of the model, timed now ({self.device}{threads}): {self.trained * 1e6:.3g} us a token in "
            f"training, {self.read * 1e6:.3g} us in a forward pass, {self.decoded * 1e3:.3g} ms for a token of all "
            f"rows in decoding; memory {self.bandwidth / 1e9:.3g} GB/s; rows at their longest, without the "
            "environment, rewards, evaluations and checkpoints"
        )


def seconds(work: StageWorkload, phase: Phase, rates: Rates) -> float | None:
    """Return how long a phase takes; None where its work is unknown."""
    if phase.flops is None or phase.tokens is None:
        return None
    if phase.name == "reward":
        return 0.0
    if phase.name == "sample":
        # an engine with weights of its own was not timed
        return None if work.tensor_parallel_size else _sampled(work, rates)
    of = work.critic if phase.name in {"values", "critic"} and work.critic is not None else work
    if (of.shape, of.dtype_bytes) != (work.shape, work.dtype_bytes):
        return None  # a critic of other sizes, which was not timed
    return _over_rows(of, phase.tokens, rates, trained=phase.name in {"update", "critic"})


def _over_rows(work: StageWorkload, tokens: int, rates: Rates, *, trained: bool) -> float | None:
    """Return the time of a pass over the rows of a step, or of the updates."""
    counts, shape = work.trained_rows(), work.shape
    if counts is None:
        return None
    passes = -(-tokens // work.microbatch)
    if not trained:
        return tokens * shape.layers * rates.read + counts.logits * rates.scored_logits + passes * rates.read_ends
    layers = tokens * shape.layers * (rates.trained + work.extra_forward_passes * rates.read)
    optimizer = OPTIMIZER * work.trainable_parameters * work.passes / rates.bandwidth
    return layers + counts.logits * work.passes * rates.trained_logits + passes * rates.trained_ends + optimizer


def _sampled(work: StageWorkload, rates: Rates) -> float | None:
    """Return the time of sampling: prompts in one pass, then a pass for every token of the rows decoded together."""
    of, counts, layers = work.size.sampled, work.sampled_rows(), work.shape.layers
    if of is None or counts is None:
        return None
    prompt_tokens = counts.tokens - counts.logits
    batches = -(-of.episodes // (work.rollout_engines * work.concurrent_rows))
    return prompt_tokens * layers * rates.read + of.written * batches * (layers * rates.decoded + rates.decoded_ends)


def timed_plan(planned: Plan, rates: Callable[[StagePlan], tuple[StageWorkload, Rates] | None]) -> Plan:
    """Add times to the stages that will run and have none; ``rates`` measures a stage, where its model is known."""
    return replace(planned, stages=tuple(_timed(stage, rates) for stage in planned.stages))


def _timed(stage: StagePlan, rates: Callable[[StagePlan], tuple[StageWorkload, Rates] | None]) -> StagePlan:
    measurement = rates(stage) if stage.action != "skip" and not stage.pace and stage.devices == 1 else None
    if measurement is None:
        return stage
    work, measured = measurement
    phases = tuple(replace(phase, seconds=seconds(work, phase, measured)) for phase in stage.phases)
    known = [phase.seconds for phase in phases if phase.seconds is not None]
    stage_seconds = stage.steps * sum(known) if stage.steps and len(known) == len(phases) else None
    return replace(stage, phases=phases, seconds=stage_seconds, pace=measured.basis)

"""What a stage holds in the memory of each device, and on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recipec.planning.cost import amount
from recipec.planning.work import Work

LOGITS = 1 << 25
"""Most logits alive at once; the runtime's head has the same bound."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What takes room in memory or on disk, in bytes."""

    name: str
    bytes: float | None
    assumes: str


def _matrices(lora: Mapping[str, Any]) -> str:
    targets = lora["targets"]
    return "every matrix" if targets == "all_linear" else ", ".join(targets)


def memory(work: Work) -> Iterator[Holding]:
    """Yield what is in memory during the stage, on each device."""
    shape, trained, width = work.shape, work.trained, work.width
    part = work.sharded
    whole = f"{shape.parameters:,} parameters of {width} bytes"
    if work.policy.get("quantization") == "nf4":
        whole = f"{shape.parameters:,} parameters, those of the decoder's matrices in NF4, others of {width} bytes"
    yield Holding("weights", work.weights / part[2], whole + _spread(part[2]))
    if work.lora:
        yield Holding(
            "adapter",
            float(trained * width),
            f"{trained:,} parameters, on {_matrices(work.lora)} of the layers",
        )
    copies = 0 if width == 4 else 4
    gradients, moments = trained * (width + copies) / part[1], trained * (8 + copies) / part[0]
    yield Holding("gradients", gradients, "trained parameters, and in float32 for the update" + _spread(part[1]))
    more = "two float32 moments, and a float32 copy of narrower weights"
    where = f"{amount(moments, 'B')} in the host's memory: " if work.train.offloads_optimizer() else ""
    yield Holding("optimizer", 0.0 if work.train.offloads_optimizer() else moments, where + more + _spread(part[0]))
    yield from _reference(work)
    each = (shape.layers * shape.hidden if work.recomputed else shape.saved) * width
    yield Holding(
        "activations", float(work.microbatch * each), f"{work.microbatch:,} tokens in a forward pass; no score matrix"
    )
    rows = min(work.microbatch, max(1, LOGITS // shape.vocabulary))
    yield Holding("logits", 12.0 * rows * shape.vocabulary, "three float32 copies of one chunk")
    if any(node.slot == "sampler" for node in work.stage.nodes()) and work.size.row:
        together = min(work.decoded, work.size.rows)
        live = float(shape.cached * width * together * work.size.row) / max(1, work.spread)
        yield Holding("keys and values", live, f"{together} rows decoded together, at their longest")
        kept = work.rollout.cache_bytes() if work.stage.node("environment") is not None else 0.0
        if kept and work.size.sampled is not None:
            every = float(shape.cached * width * work.size.sampled.episodes * work.size.row)
            said = "keys and values of episodes that go on, at most `machine.rollout.max_memory`"
            yield Holding("between turns", min(kept, every), said)
        if work.spread:
            yield Holding("sampling", work.weights / work.spread, "the sampling engine's own copy of the weights")


def _spread(part: int) -> str:
    return f", over {part} devices" if part > 1 else ""


def _reference(work: Work) -> Iterator[Holding]:
    reference = work.stage.settings["reference"]
    match (reference or {}).get("mode"):
        case "weights_copy":
            part = work.sharded[2]
            yield Holding("reference", work.weights / part, reference["why"] + _spread(part))
        case "adapter_copy":
            yield Holding("reference", float(work.trained * work.width), reference["why"])
        case "other":
            yield Holding("reference", None, f"{reference['why']}, whose size is not looked up")


def disk(work: Work) -> Iterator[Holding]:
    """Yield what the stage leaves on disk."""
    budget = work.stage.settings["budget"]
    copies = 0 if work.width == 4 else 4
    each = float(work.trained * (work.width + 8 + copies))
    keep = int(budget["keep"])
    yield Holding("checkpoints", each * keep, f"{keep} kept, each with trained parameters and the optimizer's state")
    policy = work.trained * work.width if work.lora else work.weights
    yield Holding("policy", float(policy), "the adapter alone" if work.lora else "all weights")

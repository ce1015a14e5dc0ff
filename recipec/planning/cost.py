r"""What a stage computes and reads, from the sizes of its model and its budget alone.

Sequences of lengths :math:`l_i`, :math:`T = \sum l_i`, :math:`A = \sum l_i (l_i + 1) / 2` pairs, M rows of logits:

.. math:: F = 2 P_{lin} T + 4 H_q d_h L A + 2 h V M

is one forward pass; a backward pass multiplies matrices and head by 2 (by 1 where only adapters train) and attention by
2.5.  Logits of more than one chunk are computed again; with checkpointing a forward pass of the layers is added.
Adapters of Q parameters add :math:`2 Q T` to a forward pass of the policy, and twice this to a backward pass.
Lengths are the longest that the recipe allows, so every figure is an upper bound.

References:
    Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025, for the count by pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from recipec.lowering.optimise import OLD_PASS, REFERENCE_PASS, UNREAD_LOGITS
from recipec.planning.model_shapes import Shape
from recipec.planning.stage_workload import LOGITS, StageWorkload
from recipec.planning.token_runs import Counts


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of a step; ``None`` is what cannot be known from the recipe.

    Example: ``Phase("old", 4096, 1.2e12, 2.7e8, "every row at its longest")``.
    """

    name: str
    tokens: int | None
    flops: float | None
    bytes: float | None
    """Weights and keys and values read; activations are not counted."""
    assumes: str
    seconds: float | None = None
    """Where the recipe names an accelerator."""
    idle: float = 0.0
    """Share of the devices' time in which they wait for each other."""
    devices: int = 0
    """Devices that compute it, where they are not those that train."""


def operations(shape: Shape, counts: Counts, matrices: float = 1.0, attention: float = 1.0, head: float = 1.0) -> float:
    """Count the operations of one forward pass, its three parts multiplied by factors.

    >>> from recipec.planning.model_shapes import scratch_shape
    >>> shape = scratch_shape({"hidden_size": 64, "layers": 2, "heads": 4})
    >>> operations(shape, Counts(10, 55, 10))
    2777600.0
    """
    return (
        matrices * 2.0 * shape.linear * counts.tokens
        + attention * 4.0 * shape.heads * shape.head_dim * shape.layers * counts.pairs
        + head * 2.0 * shape.hidden * shape.vocabulary * counts.logits
    )


def backward(work: StageWorkload, counts: Counts) -> float:
    """Count a backward pass; of what is frozen, for its input alone."""
    trained = 1.0 if work.lora else 2.0
    again = work.extra_forward_passes
    in_pass = counts.logits * min(1.0, work.microbatch / max(1.0, counts.tokens))
    head = trained + (in_pass * work.shape.vocabulary > LOGITS)
    flops = operations(work.shape, counts, trained + again, 2.5 + again, head)
    if not work.lora:
        return flops
    # what the first layer's queries, keys and values read are frozen embeddings, which need no gradient
    width = work.shape.head_dim * (work.shape.heads + 2 * work.shape.kv_heads) + 3 * int(work.lora["r"])
    unread = 2.0 * work.shape.hidden * width * counts.tokens
    return flops + (2.0 + again) * adapters(work, counts) - unread


def adapters(work: StageWorkload, counts: Counts) -> float:
    """Count the operations of adapters in a forward pass of the policy."""
    return 2.0 * work.trainable_parameters * counts.tokens if work.lora else 0.0


def phases(work: StageWorkload) -> Iterator[Phase]:
    """Yield the phases of one step in order."""
    nodes = list(work.stage.nodes())
    slots = {node.slot for node in nodes}
    if "preference" in slots and "sampler" in slots:
        each = "each prompt of the data is answered before training, however many pairs that gives"
        yield Phase("sample", None, None, None, each)
    elif "sampler" in slots:
        yield _sample(work)
        yield Phase("reward", 0, 0.0, 0.0, "on the CPU, without the model")
    if "reference" in slots:
        cached = (work.stage.settings["reference"] or {}).get("mode") == "cached"
        yield _scored(work, "reference", "only in the first epoch, before training" if cached else "")
    if work.stage.node("old") is not None:
        yield _scored(work, "old", "")
    if (critic := work.critic) is not None:
        yield _scored(critic, "values", "")
        yield replace(_update(critic), name="critic", assumes="")
    yield _update(work)


def saved(work: StageWorkload, what: str) -> float | None:
    """Return the operations of a step that a removal saves, where the recipe says enough to count them."""
    size = work.size
    if what in {OLD_PASS, REFERENCE_PASS}:
        return _scored(work, what, "").flops
    if what == UNREAD_LOGITS and size.prompt and work.stage.kind == "rl":
        passes = 4.0 * work.passes + sum(phase.name in {"old", "reference"} for phase in phases(work))
        return passes * operations(work.shape, Counts(0, 0, size.rows * size.prompt))
    return None


def _sample(work: StageWorkload) -> Phase:
    shape, size, of, counts = work.shape, work.size, work.size.sampled, work.sampled_rows()
    if of is None or counts is None:
        return Phase("sample", None, None, None, "the sampler does not bound the length of a row")
    batches = -(-of.episodes // (work.rollout_engines * work.concurrent_rows))
    bytes_read = (
        work.rollout_weight_bytes * max(1, work.tensor_parallel_size) * of.written * batches * work.rollout_engines
    )
    bytes_read += shape.cached * work.rollout_dtype_bytes * counts.logits * ((size.prompt or 0) + (of.run + 1) / 2)
    once = "a group's prompt is computed once" if of.prompts <= of.episodes else "every turn's prompt is computed again"
    assumed = f"{once}; weights are read for every token"
    servers = work.rollout_engines * max(1, work.tensor_parallel_size) if work.rollout.apart() else 0
    assumed += f"; on {servers} devices of servers" if servers else ""
    flops = operations(shape, counts) + adapters(work, counts)
    return Phase("sample", round(counts.tokens), flops, bytes_read, assumed, devices=servers)


def _scored(work: StageWorkload, name: str, assumes: str) -> Phase:
    counts = work.trained_rows()
    if counts is None:
        return Phase(name, None, None, None, assumes)
    tokens = round(counts.tokens)
    flops = operations(work.shape, counts) + (0.0 if name == "reference" else adapters(work, counts))
    return Phase(name, tokens, flops, work.weight_bytes * -(-tokens // work.microbatch), assumes)


def _update(work: StageWorkload) -> Phase:
    counts = work.trained_rows()
    if counts is None:
        return Phase("update", None, None, None, "")
    tokens = round(counts.tokens) * work.passes
    forward = operations(work.shape, counts) + adapters(work, counts)
    flops = work.passes * (forward + backward(work, counts))
    bytes_read = work.weight_bytes * (2 + work.extra_forward_passes) * -(-tokens // work.microbatch)
    zero = any(node.decided.get("drop_zero_credit") for node in work.stage.nodes())
    return Phase("update", tokens, flops, bytes_read, "every row has credit" if zero else "")


def amount(value: float | None, unit: str) -> str:
    """Write a number with three figures and a decimal prefix.

    >>> amount(2.5e9, "B"), amount(0, "FLOP"), amount(None, "B")
    ('2.5 GB', '0 FLOP', 'unknown')
    """
    if value is None:
        return "unknown"
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 1000 or prefix == "E":
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    raise AssertionError

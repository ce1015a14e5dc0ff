r"""What a stage holds in the memory of each device and of the host, and on disk.

With P parameters of w bytes, Q of them trained, and optimizer state, gradients and weights spread over
:math:`n_o, n_g, n_w` devices, a device keeps

.. math:: P w / n_w + Q w / n_g + Q (8 + 4 + 4) / n_o

for narrow weights, gradients, and two moments, a float32 copy and its gradient; a float32 policy has neither the copy
nor its gradient.  What is gathered for use is added.  Sampling and updates follow each other, so that their own
needs are compared and not added.

References:
    Rajbhandari et al., `ZeRO <https://arxiv.org/abs/1910.02054>`_, 2019, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from recipec.planning.cost import amount
from recipec.planning.stage_workload import CUDA_GRAPH_BYTES, FLOAT32_BYTES, LOGITS, StageWorkload

ROW = 400
"""Bytes of a recorded row besides its tokens, about: names, rewards, advantage, short columns of the data."""
LETTERS = 1000
"""A vocabulary of fewer tokens has letters or bytes, one each; others have about four bytes of text a token."""
COLUMNS = 31
"""Bytes of a token in the columns of a step, which every process has: ids, masks, turns and log-probabilities."""
When = Literal["always", "update", "step", "sample"]


@dataclass(frozen=True, slots=True)
class Holding:
    """What takes room in memory or on disk, in bytes.

    Example: ``Holding("weights", 6.2e9, "3,085,938,688 parameters of 2 bytes")``.
    """

    name: str
    bytes: float | None
    assumes: str
    when: When = "always"
    """Whether it is there all the time, in updates, at the optimizer's step alone, or while rollouts are sampled."""


def peak(holdings: Iterable[Holding]) -> tuple[float, When]:
    """Return the most bytes held at once, and in which part of a step.

    >>> peak([Holding("a", 2.0, ""), Holding("b", 3.0, "", "update"), Holding("c", 1.0, "", "sample")])
    (5.0, 'update')
    """
    sums: dict[When, float] = dict.fromkeys(get_args(When), 0.0)
    for one in holdings:
        sums[one.when] += one.bytes or 0.0
    always = sums.pop("always")
    when = max(sums, key=lambda part: sums[part])
    return always + sums[when], when


def memory(work: StageWorkload, unique: int | None = None) -> Iterator[Holding]:
    """Yield what is in the memory of each device during the stage.

    ``unique`` are the tokens of a step's rows, where the attention computes common prefixes once.
    """
    yield from training(work, unique)
    if work.samples and not work.rollout.apart():
        yield from _sampling(work)


def server(work: StageWorkload) -> Iterator[Holding]:
    """Yield what is in the memory of each device of a rollout server."""
    if work.samples and work.rollout.apart():
        yield from (replace(holding, when="always") for holding in _sampling(work))


def training(work: StageWorkload, unique: int | None = None) -> Iterator[Holding]:
    """Yield what is in the memory of each device for the updates."""
    in_update = _update_tokens(work, unique)
    yield from _state(work, accumulates=in_update is None or in_update > work.microbatch or work.ranks > 1)
    yield from _reference(work)
    yield from _critic(work)
    largest = work.microbatch if in_update is None else min(work.microbatch, max(in_update, work.size.row or 0))
    tokens = -(-largest // work.train.sequence_partitions())
    note = f"{tokens:,} tokens in a forward pass; no score matrix"
    yield Holding("activations", float(tokens * _activations(work)), note, "update")
    rows = min(tokens, max(1, LOGITS // work.shape.vocabulary))
    yield Holding("logits", 12.0 * rows * work.shape.vocabulary, "three float32 copies of one chunk", "update")


def _update_tokens(work: StageWorkload, unique: int | None) -> int | None:
    """Return the tokens that an update computes; None where rows have no known length."""
    every = unique or work.size.rows * (work.size.row or 0)
    return -(-every // work.minibatches) or None


def _state(work: StageWorkload, *, accumulates: bool) -> Iterator[Holding]:
    """Yield weights, gradients and the optimizer's state.

    An update of one forward pass has its gradients when the activations are gone; others add them up over passes.
    """
    trained, engine = work.trainable_parameters, work.train
    moments, gradients, weights = work.partition_counts
    note = f"{work.shape.parameters:,} parameters of {work.dtype_bytes} bytes"
    if narrow := work.policy.get("quantization"):
        others = f"others of {work.dtype_bytes} bytes"
        note = f"{work.shape.parameters:,} parameters, those of matrices in {narrow}, {others}"
    yield _kept("weights", work.weight_bytes / weights, note + _over(weights), offloaded=engine.offloads_parameters())
    if work.lora is not None:
        note = f"{trained:,} parameters, on {_matrices(work.lora)} of the layers"
        yield Holding("adapter", float(work.trainable_bytes) / weights, note + _over(weights))
    if weights > 1:
        live = min(work.shape.parameters, engine.gathered_weights(work.shape.layer, work.shape.root))
        note = f"at most {live:,} parameters at once"
        yield Holding("gathered weights", float(live * work.dtype_bytes), note, "update")
    copies, gradient_bytes = work.master_bytes_per_parameter, _gradients(work)
    note = "trained parameters" + (", and in float32 for the update" if copies else "")
    spread = _over(gradients) or (", those in float32" + _over(moments) if copies and moments > 1 else "")
    if engine.offloads_parameters():
        yield Holding("gradients", 0.0, f"{amount(gradient_bytes, 'B')} in the host's memory: {note}{spread}", "update")
    else:
        yield Holding("gradients", gradient_bytes, note + spread, "update" if accumulates else "step")
    if work.ranks > 1 and (buffered := min(trained, engine.buffered_gradients(work.shape.layer))):
        note = f"gradients of {buffered:,} parameters on their way"
        yield Holding("buffers", float(buffered * work.trainable_dtype_bytes), note, "update")
    each = work.optimizer_bytes_per_parameter
    note = f"two moments of {each // 2} bytes" if each else "rows and columns of second moments"
    note += ", and a float32 copy of narrower weights" if copies else ""
    yield _kept(
        "optimizer", work.optimizer_bytes / moments, note + _over(moments), offloaded=engine.offloads_optimizer()
    )


def _gradients(work: StageWorkload) -> float:
    """Return the bytes of the gradients of an update, in float32 too where the weights are narrower."""
    moments, gradients, _ = work.partition_counts
    master = work.master_bytes_per_parameter
    return work.trainable_parameters * (work.trainable_dtype_bytes / gradients + master / moments)


def _activations(work: StageWorkload) -> int:
    """Return the bytes of a token that are kept for the backward pass, about: what autograd saves of a gated decoder.

    Norms keep a float32 input; where weights are trained, what is multiplied by them is kept, too.  Adapters keep their
    inputs in float32.  With checkpointing, layers keep their inputs, and one is computed again.
    """
    shape, width = work.shape, work.dtype_bytes
    norm = FLOAT32_BYTES * shape.hidden + (0 if work.lora else 2 * width * shape.hidden)
    attention = (3 * shape.heads + 4 * shape.kv_heads) * shape.head_dim * width
    inside = shape.intermediate * width * (3 if work.lora else 4)
    layer = 2 * norm + attention + inside
    if work.lora is not None:
        layer += FLOAT32_BYTES * shape.adapted(int(work.lora["r"]), work.lora["targets"])
    return (shape.layers * shape.hidden * width + layer if work.extra_forward_passes else shape.layers * layer) + norm


def _kept(name: str, held_bytes: float, note: str, *, offloaded: bool) -> Holding:
    if offloaded:
        return Holding(name, 0.0, f"{amount(held_bytes, 'B')} in the host's memory: {note}")
    return Holding(name, held_bytes, note)


def _over(part: int) -> str:
    return f", over {part} devices" if part > 1 else ""


def _matrices(lora: Mapping[str, Any]) -> str:
    targets = lora["targets"]
    return "every matrix" if targets == "all_linear" else ", ".join(targets)


def _reference(work: StageWorkload) -> Iterator[Holding]:
    reference = work.stage.settings["reference"]
    match (reference or {}).get("mode"):
        case "weights_copy":
            part = work.partition_counts[2]
            twice = 2 if part > 1 else 1  # shards change places with those of the policy
            note = reference["why"] + _over(part) + (", and as much while it computes" if part > 1 else "")
            yield Holding("reference", twice * work.weight_bytes / part, note)
        case "adapter_copy":
            yield Holding("reference", float(work.trainable_bytes), reference["why"])
        case "other":
            yield Holding("reference", None, f"{reference['why']}, of unknown size")


def _critic(work: StageWorkload) -> Iterator[Holding]:
    """Yield what a critic keeps; it is updated before the policy, with gradients and activations that are gone then."""
    node = work.stage.node("critic")
    if node is None:
        return
    critic = work.critic
    if critic is None:
        yield Holding("critic", None, f"weights of {node.params['from']}, of unknown size")
        return
    moments, gradients, weights = critic.partition_counts
    held_bytes = critic.trainable_bytes / weights + critic.optimizer_bytes / moments
    note = (
        f"{critic.shape.parameters:,} parameters of {critic.dtype_bytes} bytes and the state of their optimizer"
        + _over(moments)
    )
    yield Holding("critic", held_bytes, note)
    more = _gradients(critic) - _gradients(work)
    if more > 0:
        note = "more than the policy has, in another part of the step" + _over(gradients)
        yield Holding("gradients of the critic", more, note, "update")


def _sampling(work: StageWorkload) -> Iterator[Holding]:
    """Yield what samples: a copy of the weights where there is one, keys and values."""
    if work.rollout.shares_weights and work.partition_counts[2] > 1:
        note = "a whole copy for sampling, since the weights are spread"
        yield Holding("copy to sample", float(work.shape.parameters * work.dtype_bytes), note)
    when: When = "sample" if work.tensor_parallel_size == 0 or work.rollout.sleeps() else "always"
    if work.tensor_parallel_size:
        note = "the sampling engine's own copy of the weights" + _over(work.tensor_parallel_size)
        yield Holding("engine", work.rollout_weight_bytes, note, when)
    if not work.size.row:
        return
    if (room := work.kv_cache_bytes) is not None:
        most = room / work.kv_bytes_per_row if work.kv_bytes_per_row else 0.0
        share = f"the rest of {work.rollout.memory_share():.0%} of the device"
        note = f"{share}: {most:,.0f} rows at their longest; {work.concurrent_rows:,} are decoded together"
        yield Holding("keys and values", max(0.0, room), note, when)
        yield Holding("graphs", CUDA_GRAPH_BYTES, "CUDA graphs and buffers of the engine, about", when)
        return
    together = min(work.concurrent_rows, -(-work.size.rows // work.rollout_engines))
    note = f"{together} rows decoded together, at their longest"
    yield Holding("keys and values", work.kv_bytes_per_row * together, note, when)
    cache_bytes = work.rollout.cache_bytes() if work.stage.node("environment") is not None else 0.0
    if cache_bytes and work.size.sampled is not None:
        every = float(work.shape.cached * work.dtype_bytes * work.size.sampled.episodes * work.size.row) / work.ranks
        note = "keys and values of episodes that go on, at most `machine.rollout.max_memory`"
        yield Holding("between turns", min(cache_bytes, every), note, when)


def host(work: StageWorkload) -> Iterator[Holding]:
    """Yield what is in the host memory of a node."""
    moments, _, weights = work.partition_counts
    each = _over(work.devices).replace(", over", ", of") if work.devices > 1 else ""
    if work.train.offloads_optimizer():
        yield Holding("optimizer", work.optimizer_bytes / moments * work.devices, "its state" + each)
    if work.train.offloads_parameters():
        yield Holding("weights", work.weight_bytes / weights * work.devices, "between uses" + each)
        yield Holding("gradients", _gradients(work) * work.devices, "for the update" + each)
    if work.tensor_parallel_size and work.rollout.sleeps() and work.samples and not work.rollout.apart():
        yield Holding("engine", work.rollout_weight_bytes * work.devices, "weights of an engine that sleeps" + each)
    if work.ranks > 1:
        if work.size.row:
            tokens = work.size.rows * work.size.row
            note = f"{tokens:,} tokens of a step in every process, {COLUMNS} bytes each"
            yield Holding("rollouts", float(COLUMNS * tokens * work.devices), note)
        if max(work.partition_counts) > 1:
            note = "a checkpoint: each process writes its share of whole tensors"
            yield Holding("to save", _checkpoint(work) * work.devices / work.ranks, note)


def _checkpoint(work: StageWorkload) -> float:
    critic = work.critic
    return float(sum(one.trainable_bytes + one.optimizer_bytes for one in (work, critic) if one is not None))


def disk(work: StageWorkload, steps: int | None) -> Iterator[Holding]:
    """Yield what the stage leaves on disk, after a number of steps that may be unknown."""
    keep = int(work.stage.settings["budget"]["keep"])
    note = f"{keep} kept, each with trained parameters and the optimizer's state"
    yield Holding("checkpoints", _checkpoint(work) * keep, note)
    policy = work.trainable_bytes + work.weight_bytes if work.lora else work.weight_bytes
    yield Holding("policy", float(policy), "the adapter, and the weights under it" if work.lora else "all weights")
    if work.stage.kind == "rl" and steps and work.size.row:
        each = _recorded(work, work.size.row)
        note = f"of {steps:,} steps, and a copy for later stages; about {amount(each, 'B')} a row of full length"
        yield Holding("samples", 2 * each * work.size.rows * steps, note)


def _recorded(work: StageWorkload, length: int) -> float:
    """Return about how many bytes of JSON a recorded row has: its ids, its text, and its prompt again as a column."""
    digits, text = len(str(work.shape.vocabulary)), 1 if work.shape.vocabulary < LETTERS else 4
    return ROW + float(length * (digits + len(", ") + text) + (work.size.prompt or 0) * text)

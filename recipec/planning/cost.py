r"""What a stage costs, from the sizes of its model and its budget alone.

Sequences of lengths :math:`l_i`, :math:`T = \sum l_i`, :math:`A = \sum l_i (l_i + 1) / 2` pairs, M rows of logits:

.. math:: F = 2 P_{lin} T + 4 H_q d_h L A + 2 h V M

is one forward pass; an update multiplies the matrices by 3 (4 with checkpointing; one less where only adapters train),
attention by 3.5 (4.5), and the head by 4, whose logits are computed again in the backward pass.
Lengths are the longest that the recipe allows, so every figure is an upper bound.

References:
    Liu et al., `Prefix Grouper <https://arxiv.org/abs/2506.05433>`_, 2025, for the count by pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recipec.graph import StageGraph
from recipec.lowering.optimise import OLD_PASS, REFERENCE_PASS, UNREAD_LOGITS
from recipec.planning.model_shapes import Shape
from recipec.planning.step_sizes import Lengths

WIDTH = {"float32": 4, "bfloat16": 2}
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of a weight: four bits; a block of 64 shares a scale of eight, 256 of these one of 32 (QLoRA, section 3)."""
LOGITS = 1 << 25
"""Most logits alive at once; the runtime's head has the same bound."""


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


@dataclass(frozen=True, slots=True)
class Holding:
    """What takes room in memory or on disk, in bytes."""

    name: str
    bytes: float | None
    assumes: str


@dataclass(frozen=True, slots=True)
class Work:
    """A stage, its model and its sizes: what every figure below is made of."""

    stage: StageGraph
    shape: Shape
    size: Lengths
    checkpointing: bool = False
    decoded: int = 64
    """Rows decoded together."""
    kept: float = 0.0
    """Most bytes of keys and values that are kept between the turns of episodes."""
    devices: int = 1
    sharded: tuple[int, int, int] = (1, 1, 1)
    """Over how many devices the optimizer's state, the gradients and the weights are spread."""
    offload: bool = False
    """Whether the optimizer's state lies in the host's memory."""
    spread: int = 0
    """Devices over which an engine of its own spreads its copy of the weights; 0: it samples with the model itself."""

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return WIDTH[self.policy.get("dtype", "float32")]

    @property
    def policy(self) -> Mapping[str, Any]:
        """The policy's parameters."""
        found: Mapping[str, Any] = self.stage.settings["policy"]
        return found

    @property
    def trained(self) -> int:
        """Parameters that the optimizer may change; `freeze` can only make them fewer."""
        lora = self.policy.get("lora")
        return self.shape.adapter(int(lora["r"]), lora["targets"]) if lora else self.shape.parameters

    @property
    def microbatch(self) -> int:
        """Tokens of the largest forward pass: the budget's bound, or one row that is longer."""
        bound = int(self.stage.settings["budget"]["microbatch_tokens"])
        whole = self.size.rows * (self.size.row or 0)
        return min(max(bound, self.size.row or 0), whole) if whole else bound

    @property
    def weights(self) -> float:
        """Bytes of the weights; of a quantized model, the decoder's matrices alone are narrow."""
        if self.policy.get("quantization") != "nf4":
            return float(self.shape.parameters * self.width)
        return NF4 * self.shape.linear + float((self.shape.parameters - self.shape.linear) * self.width)


def forward(shape: Shape, rows: int, prompt: int, completion: int) -> tuple[float, float, float]:
    """Return the operations of matrices, attention and head in one pass over ``rows`` rows.

    >>> from recipec.planning.model_shapes import scratch_shape
    >>> shape = scratch_shape({"hidden_size": 64, "layers": 2, "heads": 4})
    >>> forward(shape, 1, 0, 10)
    (2621440.0, 28160.0, 128000.0)
    """
    length = prompt + completion
    attention = 4.0 * shape.heads * shape.head_dim * shape.layers * rows * length * (length + 1) / 2
    head = 2.0 * shape.hidden * shape.vocabulary * rows * completion
    return 2.0 * shape.linear * rows * length, attention, head


def phases(work: Work) -> Iterator[Phase]:
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
    if any(node.id.endswith("/old") for node in nodes):
        yield _scored(work, "old", "")
    yield _update(work)


def saved(work: Work, what: str) -> float | None:
    """Return the operations of a step that a removal saves, where the recipe says enough to count them."""
    size = work.size
    if what in {OLD_PASS, REFERENCE_PASS}:
        return _scored(work, what, "").flops
    if what == UNREAD_LOGITS and size.prompt and work.stage.kind == "rl":
        updates = 4.0 * int(work.stage.settings["budget"]["passes"])
        passes = updates + sum(phase.name in {"old", "reference"} for phase in phases(work))
        return passes * 2.0 * work.shape.hidden * work.shape.vocabulary * size.rows * size.prompt
    return None


def _sample(work: Work) -> Phase:
    shape, size, of = work.shape, work.size, work.size.sampled
    if of is None:
        return Phase("sample", None, None, None, "the sampler does not bound the length of a row")
    prompt, written = size.prompt or 0, of.episodes * of.written
    after = of.episodes * (of.written + of.observed)
    tokens = round(of.prompts * prompt + after)
    # position t after a prompt attends to the prompt and to the t tokens before it
    pairs = of.prompts * prompt * (prompt + 1) / 2 + after * (prompt + (of.run + 1) / 2)
    flops = 2.0 * shape.linear * tokens + 4.0 * shape.heads * shape.head_dim * shape.layers * pairs
    flops += 2.0 * shape.hidden * shape.vocabulary * written
    engines = max(1, work.devices // max(1, work.spread))
    batches = -(-of.episodes // (engines * work.decoded))
    read = work.weights * of.written * batches * engines
    read += shape.cached * work.width * written * (prompt + (of.run + 1) / 2)
    once = "a group's prompt is computed once" if of.prompts <= of.episodes else "every turn's prompt is computed anew"
    return Phase("sample", tokens, flops, read, f"{once}; weights are read for every token")


def _scored(work: Work, name: str, assumes: str) -> Phase:
    size = work.size
    if size.completion is None:
        return Phase(name, None, None, None, assumes)
    tokens = size.rows * (size.row or 0)
    flops = sum(forward(work.shape, size.rows, (size.prompt or 0) + size.observed, size.completion))
    return Phase(name, tokens, flops, work.weights * -(-tokens // work.microbatch), assumes)


def _update(work: Work) -> Phase:
    size = work.size
    if size.completion is None:
        return Phase("update", None, None, None, "")
    passes = int(work.stage.settings["budget"]["passes"])
    tokens = size.rows * (size.row or 0) * passes
    matrices, attention, head = forward(work.shape, size.rows, (size.prompt or 0) + size.observed, size.completion)
    again = 1.0 if work.checkpointing else 0.0
    # a frozen matrix needs the gradient of its input alone
    linear = (2.0 if work.policy.get("lora") else 3.0) + again
    flops = passes * (matrices * linear + attention * (3.5 + again) + head * 4.0)
    read = work.weights * (2 + again) * -(-tokens // work.microbatch)
    zero = any(node.decided.get("drop_zero_credit") for node in work.stage.nodes())
    return Phase("update", tokens, flops, read, "every row has credit" if zero else "")


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
    adapter = trained if work.policy.get("lora") else 0
    if adapter:
        yield Holding(
            "adapter",
            float(adapter * width),
            f"{adapter:,} parameters, on {_matrices(work.policy['lora'])} of the layers",
        )
    copies = 0 if width == 4 else 4
    gradients, moments = trained * (width + copies) / part[1], trained * (8 + copies) / part[0]
    yield Holding("gradients", gradients, "trained parameters, and in float32 for the update" + _spread(part[1]))
    more = "two float32 moments, and a float32 copy of narrower weights"
    where = f"{amount(moments, 'B')} in the host's memory: " if work.offload else ""
    yield Holding("optimizer", 0.0 if work.offload else moments, where + more + _spread(part[0]))
    yield from _reference(work)
    each = (shape.layers * shape.hidden if work.checkpointing else shape.saved) * width
    yield Holding(
        "activations", float(work.microbatch * each), f"{work.microbatch:,} tokens in a forward pass; no score matrix"
    )
    rows = min(work.microbatch, max(1, LOGITS // shape.vocabulary))
    yield Holding("logits", 12.0 * rows * shape.vocabulary, "three float32 copies of one chunk")
    if any(node.slot == "sampler" for node in work.stage.nodes()) and work.size.row:
        together = min(work.decoded, work.size.rows)
        kept = float(shape.cached * width * together * work.size.row) / max(1, work.spread)
        yield Holding("keys and values", kept, f"{together} rows decoded together, at their longest")
        if work.kept and work.size.sampled is not None:
            every = float(shape.cached * width * work.size.sampled.episodes * work.size.row)
            said = "keys and values of episodes that go on, at most `machine.rollout.max_memory`"
            yield Holding("between turns", min(work.kept, every), said)
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
    policy = work.trained * work.width if work.policy.get("lora") else work.weights
    yield Holding("policy", float(policy), "the adapter alone" if work.policy.get("lora") else "all weights")


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

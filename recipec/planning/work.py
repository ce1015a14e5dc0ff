"""One stage's work: its model, its sizes and its machine, from which every figure of a plan is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from recipec.graph import Graph, StageGraph
from recipec.planning.accelerators import Accelerator, accelerators
from recipec.planning.model_shapes import Shape, config_shape, known_shape, scratch_shape
from recipec.planning.step_sizes import Lengths, lengths
from recipec.planning.token_runs import Counts
from recipec.spec.optimizer import Optimizer
from recipec.spec.recipe import MICROBATCH
from recipec.spec.rollout_engine import RolloutEngine
from recipec.spec.sampler import Sampler
from recipec.spec.train_engine import TrainEngine

WIDTH = {"float32": 4, "bfloat16": 2}
WIDE = WIDTH["float32"]
MOMENTS = 2 * WIDE
"""Bytes of the moments of Adam for a parameter."""
GRAPHS = 1.5e9
"""Bytes of a sampling engine's CUDA graphs and buffers, about."""
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of a weight: four bits; a block of 64 shares a scale of eight, 256 of these one of 32 (QLoRA, section 3)."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one stage computes and holds in a step, and on how many devices.

    Example: ``Work(stage, shape, lengths(stage), devices=8)``.
    """

    stage: StageGraph
    shape: Shape
    size: Lengths
    devices: int = 1
    """Devices of a node."""
    nodes: int = 1
    accelerator: Accelerator | None = None

    @property
    def train(self) -> TrainEngine:
        """The training engine."""
        node = self.stage.node("train_engine")
        assert node is not None, "every stage has one"
        assert isinstance(node.spec, TrainEngine)
        return node.spec

    @property
    def rollout(self) -> RolloutEngine:
        """The rollout engine."""
        node = self.stage.node("rollout_engine")
        assert node is not None, "every stage has one"
        assert isinstance(node.spec, RolloutEngine)
        return node.spec

    @property
    def ranks(self) -> int:
        """Devices of all nodes."""
        return self.devices * self.nodes

    @property
    def sharded(self) -> tuple[int, int, int]:
        """Over how many devices the optimizer's state, the gradients and the weights are spread."""
        return self.train.partitions(self.ranks)

    @property
    def spread(self) -> int:
        """Devices over which an engine of its own spreads its copy of the weights; 0: it samples with the model."""
        return self.rollout.weight_partitions()

    @property
    def replicas(self) -> int:
        """Groups of devices that train on rows of their own."""
        return max(1, self.ranks // self.train.sequence_partitions())

    @property
    def engines(self) -> int:
        """Sampling engines, each on one device or more: servers, or those of the devices that train."""
        if self.rollout.processes():
            return self.rollout.processes()
        return max(1, self.ranks // max(1, self.spread))

    @property
    def staleness(self) -> int:
        """Steps by which rollouts are sampled ahead while the policy is trained; 0 where nothing overlaps."""
        node = self.stage.node("sampler")
        found = node.spec.max_staleness if node is not None and isinstance(node.spec, Sampler) else 0
        return found if self.rollout.apart() else 0

    @property
    def samples(self) -> bool:
        """Whether the stage samples rollouts."""
        return any(node.slot == "sampler" for node in self.stage.nodes())

    @property
    def engine_width(self) -> int:
        """Bytes of a number in the sampling engine."""
        return WIDTH[self.rollout.weights_dtype() or self.policy.get("dtype", "float32")]

    @property
    def engine_weights(self) -> float:
        """Bytes of the sampling engine's copy of the weights on one device."""
        if self.engine_width == self.width:
            return self.weights / max(1, self.spread)
        return float(self.shape.parameters * self.engine_width) / max(1, self.spread)

    @property
    def cached_row(self) -> float:
        """Bytes of the keys and values of the longest row on one device; key-value heads are split, then copied."""
        heads = max(1.0, self.shape.kv_heads / max(1, self.spread))
        return self.shape.cached / self.shape.kv_heads * heads * self.engine_width * (self.size.row or 0)

    @property
    def cache_room(self) -> float | None:
        """Bytes that the sampling engine's share of a device leaves for keys and values; None where nothing says."""
        share = self.rollout.memory_share()
        if share is None or self.accelerator is None:
            return None
        return share * self.accelerator.memory - self.engine_weights - GRAPHS

    @property
    def decoded(self) -> int:
        """Rows decoded together: what the engine takes, or what its memory has room for."""
        most, room = self.rollout.rows_together(), self.cache_room
        return most if room is None or not self.cached_row else max(1, min(most, int(room / self.cached_row)))

    @property
    def recomputed(self) -> float:
        """How often the backward pass computes a forward pass again."""
        return 1.0 if self.train.recomputes_activations() else 0.0

    @property
    def width(self) -> int:
        """Bytes of a weight."""
        return WIDTH[self.policy.get("dtype", "float32")]

    @property
    def trained_width(self) -> int:
        """Bytes of a weight that is trained: adapters are float32."""
        return WIDE if self.lora else self.width

    @property
    def copied(self) -> int:
        """Bytes of the float32 copy of a weight that updates need; none where it is float32 itself."""
        return 0 if self.trained_width == WIDE else WIDE

    @property
    def policy(self) -> Mapping[str, Any]:
        """The policy's parameters."""
        found: Mapping[str, Any] = self.stage.settings["policy"]
        return found

    @property
    def moments(self) -> int:
        """Bytes of the optimizer's state of one parameter."""
        spec = next(node.spec for node in self.stage.nodes() if node.slot == "optimizer")
        return spec.moment_bytes() if isinstance(spec, Optimizer) else MOMENTS

    @property
    def critic(self) -> Work | None:
        """The work of a critic, as if it were the policy of a stage; None where there is none, or its size is unknown.

        It has the size of the policy where it starts from the same weights.
        """
        node = self.stage.node("critic")
        if node is None or self.critic_shape is None:
            return None
        policy = {**self.policy, "dtype": node.params["dtype"], "lora": None, "quantization": None}
        stage = replace(self.stage, settings={**self.stage.settings, "policy": policy})
        return replace(self, stage=stage, shape=self.critic_shape)

    @property
    def critic_shape(self) -> Shape | None:
        """The sizes of the critic's decoder, without a matrix that gives logits."""
        node = self.stage.node("critic")
        origin = None if node is None else node.params["from"]
        return self.shape if origin is None else known_shape(origin)

    @property
    def lora(self) -> Mapping[str, Any] | None:
        """The adapter that is trained; None where the weights are."""
        found: Mapping[str, Any] | None = self.policy.get("lora")
        return found

    @property
    def trained(self) -> int:
        """Parameters that the optimizer may change; `freeze` can only make them fewer."""
        lora = self.lora
        return self.shape.adapter(int(lora["r"]), lora["targets"]) if lora else self.shape.parameters

    @property
    def microbatch(self) -> int:
        """Tokens of the largest forward pass: the budget's bound, or one row that is longer."""
        value = self.stage.settings["budget"]["microbatch_tokens"]
        bound = MICROBATCH if isinstance(value, str) else int(value)
        whole = self.size.rows * (self.size.row or 0)
        return min(max(bound, self.size.row or 0), whole) if whole else bound

    @property
    def weights(self) -> float:
        """Bytes of the weights; of a quantized model, the decoder's matrices alone are narrow."""
        narrow = {"nf4": NF4, "int8": 1.0}.get(self.policy.get("quantization") or "")
        if narrow is None:
            return float(self.shape.parameters * self.width)
        return narrow * self.shape.linear + float((self.shape.parameters - self.shape.linear) * self.width)

    @property
    def passes(self) -> int:
        """How often updates go over the rows of a step."""
        return int(self.stage.settings["budget"]["passes"])

    def trained_rows(self) -> Counts | None:
        """Count what one pass over the rows of a step computes; None where their length is not known."""
        size = self.size
        if size.completion is None:
            return None
        length = (size.prompt or 0) + size.observed + size.completion
        row = Counts(length, length * (length + 1) / 2, size.completion)
        return row.scaled(size.rows)

    def sampled_rows(self) -> Counts | None:
        """Count what the rollouts of a step compute; None where their length is not known.

        Position t after a prompt attends to the prompt and to the t tokens before it.
        """
        of = self.size.sampled
        if of is None:
            return None
        prompt, after = self.size.prompt or 0, of.episodes * (of.written + of.observed)
        pairs = of.prompts * prompt * (prompt + 1) / 2 + after * (prompt + (of.run + 1) / 2)
        return Counts(round(of.prompts * prompt + after), pairs, of.episodes * of.written)


def work_of(graph: Graph, stage: StageGraph, shape: Shape) -> Work:
    """Return the work of a stage on the machine of its recipe."""
    devices, nodes = (int(graph.machine.get(key) or 1) for key in ("devices", "nodes"))
    found = accelerators().get(str(graph.machine.get("accelerator")))
    return Work(stage, shape, sizes_of(graph, stage, shape), devices, nodes, found)


def sizes_of(graph: Graph, stage: StageGraph, shape: Shape | None) -> Lengths:
    """Return the lengths of a stage's rows; a new model bounds them by its positions."""
    new = bool(root_of(graph, stage).settings["weights"] == "scratch")
    return lengths(stage, shape.positions if shape and new else None)


def root_of(graph: Graph, stage: StageGraph) -> StageGraph:
    """Return the stage with the ``from`` that names the model which this one goes back to."""
    names = {s.name: s for s in graph.stages}
    while stage.origin in names:
        stage = names[stage.origin]
    return stage


def shapes_of(graph: Graph, config: Callable[[str], Mapping[str, Any]] = lambda _: {}) -> dict[str, Shape | None]:
    """Return the sizes of each stage's model; ``config`` reads the configuration in a directory of weights."""
    found: dict[str, Shape | None] = {}
    for stage in graph.stages:
        found[stage.name] = found[stage.origin] if stage.origin in found else _shape(stage, config)
    return found


def _shape(stage: StageGraph, config: Callable[[str], Mapping[str, Any]]) -> Shape | None:
    match stage.settings["weights"]:
        case "scratch":
            return scratch_shape(stage.settings["policy"].get("scratch") or {})
        case "directory":
            return config_shape(value) if (value := config(stage.origin)) else None
        case _:
            return known_shape(stage.origin)

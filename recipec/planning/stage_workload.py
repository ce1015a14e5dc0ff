"""The workload of a stage: its model, its sizes and its machine, from which every figure of a plan is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from recipec.graph import Graph, StageGraph
from recipec.planning.accelerators import Accelerator, accelerators
from recipec.planning.model_shapes import Shape, config_shape, known_shape, scratch_shape
from recipec.planning.step_sizes import Lengths, lengths, minibatches
from recipec.planning.token_runs import Counts
from recipec.spec.optimizer import Optimizer
from recipec.spec.recipe import MICROBATCH
from recipec.spec.rollout_engine import RolloutEngine
from recipec.spec.sampler import Sampler
from recipec.spec.train_engine import TrainEngine

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
FLOAT32_BYTES = DTYPE_BYTES["float32"]
CUDA_GRAPH_BYTES = 1.5e9
"""CUDA graphs and buffers of a rollout engine, about."""
NF4_BYTES = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Per weight: four bits; a block of 64 shares a scale of eight, 256 of these one of 32 (QLoRA, section 3)."""
LOGITS = 1 << 25
"""Most logits alive at once: those of more tokens are computed in chunks, and again in the backward pass."""


@dataclass(frozen=True, slots=True)
class StageWorkload:
    """What one stage computes and holds in a step, and on how many devices.

    Example: ``StageWorkload(stage, shape, lengths(stage), devices=8)``.
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
        return self.stage.required(TrainEngine)

    @property
    def rollout(self) -> RolloutEngine:
        """The rollout engine."""
        return self.stage.required(RolloutEngine)

    @property
    def ranks(self) -> int:
        """Devices of all nodes."""
        return self.devices * self.nodes

    @property
    def partition_counts(self) -> tuple[int, int, int]:
        """Number of devices over which the optimizer's state, the gradients and the weights are partitioned."""
        return self.train.partitions(self.ranks)

    @property
    def tensor_parallel_size(self) -> int:
        """Number of devices over which a rollout engine partitions its copy of the weights; 0 if it has no copy."""
        return self.rollout.weight_partitions()

    @property
    def data_parallel_size(self) -> int:
        """Number of groups of devices; each trains on rows of its own."""
        return max(1, self.ranks // self.train.sequence_partitions())

    @property
    def rollout_engines(self) -> int:
        """Number of rollout engines, each on one device or more: servers, or engines on the devices that train."""
        if self.rollout.processes():
            return self.rollout.processes()
        return max(1, self.ranks // max(1, self.tensor_parallel_size))

    @property
    def staleness(self) -> int:
        """Steps by which rollouts are sampled ahead while the policy is trained; 0 where nothing overlaps."""
        sampler = self.stage.spec(Sampler)
        return sampler.max_staleness if sampler is not None and self.rollout.apart() else 0

    @property
    def samples(self) -> bool:
        """Whether the stage samples rollouts."""
        return self.stage.spec(Sampler) is not None

    @property
    def rollout_dtype_bytes(self) -> int:
        """Bytes of one weight, key or value in the rollout engine."""
        return DTYPE_BYTES[self.rollout.weights_dtype() or self.policy.get("dtype", "float32")]

    @property
    def rollout_weight_bytes(self) -> float:
        """Bytes of the rollout engine's copy of the weights on one device."""
        if self.rollout_dtype_bytes == self.dtype_bytes:
            return self.weight_bytes / max(1, self.tensor_parallel_size)
        return float(self.shape.parameters * self.rollout_dtype_bytes) / max(1, self.tensor_parallel_size)

    @property
    def kv_bytes_per_row(self) -> float:
        """Bytes of the keys and values of the longest row on one device; key-value heads are split, then copied."""
        heads = max(1.0, self.shape.kv_heads / max(1, self.tensor_parallel_size))
        return self.shape.cached / self.shape.kv_heads * heads * self.rollout_dtype_bytes * (self.size.row or 0)

    @property
    def kv_cache_bytes(self) -> float | None:
        """Bytes that the rollout engine's share of a device leaves for keys and values; None if unknown."""
        share = self.rollout.memory_share()
        if share is None or self.accelerator is None:
            return None
        return share * self.accelerator.memory - self.rollout_weight_bytes - CUDA_GRAPH_BYTES

    @property
    def concurrent_rows(self) -> int:
        """Number of rows decoded together: the engine's limit, or what its memory has room for."""
        limit, room = self.rollout.rows_together(), self.kv_cache_bytes
        if room is None or not self.kv_bytes_per_row:
            return limit
        return max(1, min(limit, int(room / self.kv_bytes_per_row)))

    @property
    def extra_forward_passes(self) -> float:
        """Number of forward passes that the backward pass adds: one with activation checkpointing."""
        return 1.0 if self.train.recomputes_activations() else 0.0

    @property
    def dtype_bytes(self) -> int:
        """Bytes of one weight of the policy, where it is not quantized."""
        return DTYPE_BYTES[self.policy.get("dtype", "float32")]

    @property
    def trainable_dtype_bytes(self) -> int:
        """Bytes of one trainable weight: adapters are float32."""
        return FLOAT32_BYTES if self.lora else self.dtype_bytes

    @property
    def master_bytes_per_parameter(self) -> int:
        """Bytes of the float32 master copy of one trainable parameter; 0 if the parameter itself is float32."""
        return 0 if self.trainable_dtype_bytes == FLOAT32_BYTES else FLOAT32_BYTES

    @property
    def policy(self) -> Mapping[str, Any]:
        """The policy's settings in the recipe."""
        policy: Mapping[str, Any] = self.stage.settings["policy"]
        return policy

    @property
    def optimizer_bytes_per_parameter(self) -> int:
        """Bytes of the optimizer's state of one trainable parameter, without its master copy."""
        return self.stage.required(Optimizer).moment_bytes()

    @property
    def critic(self) -> StageWorkload | None:
        """The workload of a critic, as if it were the policy of a stage; None if there is none, or its size is unknown.

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
        lora: Mapping[str, Any] | None = self.policy.get("lora")
        return lora

    @property
    def trainable_parameters(self) -> int:
        """Number of parameters that the optimizer may change; `freeze` can only make them fewer."""
        lora = self.lora
        return self.shape.adapter(int(lora["r"]), lora["targets"]) if lora else self.shape.parameters

    @property
    def trainable_bytes(self) -> int:
        """Bytes of the weights that are trained."""
        return self.trainable_parameters * self.trainable_dtype_bytes

    @property
    def optimizer_bytes(self) -> int:
        """Bytes of the optimizer's state on all devices together, master copies included."""
        return self.trainable_parameters * (self.optimizer_bytes_per_parameter + self.master_bytes_per_parameter)

    @property
    def microbatch(self) -> int:
        """Tokens of the largest forward pass: the budget's bound, or one row that is longer."""
        value = self.stage.settings["budget"]["microbatch_tokens"]
        bound = MICROBATCH if isinstance(value, str) else int(value)
        step_tokens = self.size.rows * (self.size.row or 0)
        return min(max(bound, self.size.row or 0), step_tokens) if step_tokens else bound

    @property
    def weight_bytes(self) -> float:
        """Bytes of all weights; quantization changes only the matrices of the decoder."""
        quantized = {"nf4": NF4_BYTES, "int8": 1.0}.get(self.policy.get("quantization") or "")
        if quantized is None:
            return float(self.shape.parameters * self.dtype_bytes)
        return quantized * self.shape.linear + float((self.shape.parameters - self.shape.linear) * self.dtype_bytes)

    @property
    def passes(self) -> int:
        """How often updates go over the rows of a step."""
        return int(self.stage.settings["budget"]["passes"])

    @property
    def minibatches(self) -> int:
        """Number of updates in one pass over the rows of a step."""
        return minibatches(self.stage.settings["budget"], self.size.units, self.size.rows)

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


def workload_of(graph: Graph, stage: StageGraph, shape: Shape) -> StageWorkload:
    """Return the workload of a stage on the machine of its recipe."""
    devices, nodes = (int(graph.machine.get(key) or 1) for key in ("devices", "nodes"))
    accelerator = accelerators().get(str(graph.machine.get("accelerator")))
    return StageWorkload(stage, shape, sizes_of(graph, stage, shape), devices, nodes, accelerator)


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
    shapes: dict[str, Shape | None] = {}
    for stage in graph.stages:
        shapes[stage.name] = shapes[stage.origin] if stage.origin in shapes else _shape(stage, config)
    return shapes


def _shape(stage: StageGraph, config: Callable[[str], Mapping[str, Any]]) -> Shape | None:
    match stage.settings["weights"]:
        case "scratch":
            return scratch_shape(stage.settings["policy"].get("scratch") or {})
        case "directory":
            return config_shape(value) if (value := config(stage.origin)) else None
        case _:
            return known_shape(stage.origin)

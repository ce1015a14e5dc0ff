"""The training engine of DeepSpeed: optimizer state, gradients and weights in parts over the ranks, by ZeRO stage."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from recipec.host.ranks import Ranks
from recipec.runtime.distributed.load_balancing import Assignment
from recipec.runtime.distributed.process_group import alone
from recipec.runtime.model.weight_layout import Entry, Gathering, WeightLayout, largest
from recipec.runtime.protocols import Policy
from recipec.runtime.training.local_engine import LocalEngine
from recipec.runtime.training.master_weights import MasterWeights, adamw
from recipec.runtime.training.optimizer import AdamW
from recipec.spec.optimizer import Adamw
from recipec.spec.train_engine import BUCKET, MAX_LIVE_PARAMETERS, Deepspeed as Spec

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

T = TypeVar("T")


class DeepspeedEngine(LocalEngine):
    """Train with DeepSpeed; see :class:`recipec.spec.train_engine.Deepspeed`.

    DeepSpeed adds up gradients and clips them, and steps an AdamW of torch over its partitions. The learning rate, what
    happens where a gradient is not finite, and the form of checkpoints are those of ``local``. One rank trains
    like ``local``, unless it offloads.
    """

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy, optimizer: AdamW) -> None:
        """Spread the state of ``policy`` over the ranks."""
        super().__init__(spec, context, policy=policy, optimizer=optimizer)
        self.partitioned: PartitionedMasters | None = None
        self.stage = spec.stage
        self.passes = 0
        """Backward passes since the last update."""
        if context.ranks.size > 1 or spec.offload or spec.offload_parameters:
            self.partitioned = PartitionedMasters(spec, context, policy, optimizer)
            policy.layout = self.partitioned.layout

    @property
    def lockstep(self) -> bool:
        """Whether ranks wait for each other in every pass: from stage 2 on they add up gradients in it."""
        return self.partitioned is not None and self.stage > 1

    def begin(self, updates: int) -> None:
        """Take over the policy's parameters, for ``updates`` updates in all."""
        self.optimizer.bind(updates, self.partitioned)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch."""
        if self.partitioned is None:
            super().backward(loss)
            return
        self.passes += 1
        # a loss that is not finite makes the gradient so on all ranks, and none of them takes the update
        marked = torch.where(loss.detach().isfinite(), 1.0, math.nan)
        # DeepSpeed averages over ranks, and a micro-batch's loss is its share of the whole minibatch
        self.partitioned.engine.backward(loss * marked * self.context.ranks.size, scale_wrt_gas=False)

    def reduce(self, assignments: Sequence[Sequence[Assignment]]) -> None:
        """Make a backward pass on a rank without any, which the others wait for; DeepSpeed adds gradients up itself."""
        if self.partitioned is None:
            super().reduce(assignments)
            return
        if not self.passes:
            self._pass_of_nothing()
        self.passes = 0
        if self.stage == 1:
            for parameter in self.partitioned.named.values():
                if parameter.grad is None:  # one rank's micro-batches may use a part of the model that another's do not
                    parameter.grad = torch.zeros_like(parameter)

    def _pass_of_nothing(self) -> None:
        """Compute a gradient of zero."""
        policy = self.policy
        calls = policy.calls
        tokens_RT = torch.zeros((1, 2), dtype=torch.int64)
        all_RT = torch.ones_like(tokens_RT, dtype=torch.bool)
        self.backward(0.0 * policy.logprobs(tokens_RT, all_RT, all_RT)["logprob_RT"].sum())
        policy.calls = calls


class _Piece(NamedTuple):
    """What this rank has of a parameter."""

    group: int
    """Number of the partition that it is in."""
    offset: int
    """Where it begins there."""
    start: int
    """Where it begins in the parameter, all axes one after the other."""
    length: int


class PartitionedMasters(MasterWeights):
    """The trained weights in float32 and their moments, in DeepSpeed's partitions."""

    def __init__(self, engine: Spec, context: StageContext, policy: Policy, optimizer: AdamW) -> None:
        """Let DeepSpeed partition the policy of a stage."""
        assert isinstance(optimizer.spec, Adamw), "RC560 refuses the others"
        self.spec: Adamw = optimizer.spec
        self.context = context
        self.named = optimizer.trainable_parameters()
        deepspeed = _deepspeed(context)
        device = torch.device("cpu") if engine.offload else context.device
        self.engine = deepspeed.initialize(
            model=Entry(policy.model),
            optimizer=adamw(self.spec, device, self.named.values()),
            config=settings(engine, self.spec, list(self.named.values())),
            dist_init_required=False,
        )[0]
        self.zero: Any = self.engine.optimizer
        self.optimizer = self.zero.optimizer
        whole = engine.stage < 3
        self.partitions: list[Tensor] = (
            self.zero.single_partition_of_fp32_groups if whole else self.zero.fp32_partitioned_groups_flat
        )
        layout = WholeWeights if whole else PartitionedWeights
        self.layout: WholeWeights = layout(policy.model, self.engine, context.ranks)

    def step(self, rate: float, *, finite_loss: bool = True) -> float:  # noqa: ARG002 - the gradient says so
        """Update by the gradients added so far, unless they are not finite; return their norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.engine.step()
        return float(self.engine.get_global_grad_norm()) if self.engine.was_step_applied() else math.nan

    def finite(self) -> bool:
        """Whether every trained weight is finite, on all ranks."""
        parts = [self.layout.part(parameter) for parameter in self.named.values()]
        return not self.context.ranks.any(not math.isfinite(largest(parts)))

    def moments(self, name: str) -> dict[str, Gathering]:
        """Return the moments of a parameter, and the number of its updates."""
        states = [self.optimizer.state.get(partition, {}) for partition in self.partitions]
        return {
            key: partial(self._whole, name, [state[key] for state in states]) if first.ndim else first.clone()
            for key, first in states[0].items()
        }

    def master(self, name: str) -> Gathering:
        """Return a parameter in float32."""
        return partial(self._whole, name, self.partitions)

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``, of this or another engine, after the weights themselves were loaded."""
        counted = [moments["step"] for moments in state["moments"].values() if moments]
        if counted:  # before its first step, an optimizer has no moments that could be set
            for partition in self.partitions:
                zeros = {key: torch.zeros_like(partition) for key in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[partition] = {"step": counted[0].clone().to(partition.device), **zeros}
        for name, parameter in self.named.items():
            weight = self.layout.joined(parameter, self.layout.part(parameter))
            self._put(name, self.partitions, state["masters"].get(name, weight))
            for key, value in state["moments"][name].items():
                if key != "step":
                    self._put(name, [self.optimizer.state[one][key] for one in self.partitions], value)

    def _piece(self, name: str) -> _Piece:
        parameter: Any = self.named[name]
        if isinstance(self.layout, PartitionedWeights):
            group, offset, length = self.zero.grad_position[self.zero.get_param_id(parameter)]
            return _Piece(group, offset, self.context.ranks.rank * length, length)
        mapping = parameter._hp_mapping  # noqa: SLF001 - no public function maps all parameter groups
        if mapping is None:  # it is in the partitions of other ranks
            return _Piece(0, 0, 0, 0)
        place, part = mapping.hp_fragment_address, mapping.lp_fragment_address
        return _Piece(mapping.param_group_index, place.start, part.start, part.numel)

    def _whole(self, name: str, tensors: list[Tensor]) -> Tensor:
        """Gather a parameter from tensors that are laid out like the partitions."""
        own = self._piece(name)
        piece = tensors[own.group].detach().narrow(0, own.offset, own.length)
        return joined(piece, own.start, self.layout.shape(self.named[name]), self.context.ranks)

    def _put(self, name: str, tensors: list[Tensor], whole: Tensor) -> None:
        """Write a whole parameter into tensors that are laid out like the partitions."""
        own = self._piece(name)
        tensors[own.group].narrow(0, own.offset, own.length).copy_(padded(whole, own.start, own.length))


class WholeWeights(WeightLayout):
    """Weights that every rank has whole, where DeepSpeed has to see the forward passes."""

    def __init__(self, model: nn.Module, engine: Any, ranks: Ranks) -> None:
        """Describe the weights of ``model``, which ``engine`` trains."""
        super().__init__(model)
        self.engine = engine
        self.ranks = ranks

    def inside(self, function: Callable[[], T]) -> T:
        """Run a function inside the forward pass of DeepSpeed's module."""
        result: T = self.engine(function)
        return result


class PartitionedWeights(WholeWeights):
    """Weights in parts, gathered a module at a time when a pass needs them; buffers are whole."""

    collective = True

    def shape(self, tensor: Tensor) -> torch.Size:
        """Return the shape of a whole weight."""
        weight: Any = tensor
        shape: torch.Size = weight.ds_shape if isinstance(tensor, nn.Parameter) else tensor.shape
        return shape

    def part(self, tensor: Tensor) -> Tensor:
        """Return what this process has of a weight, in the memory of the weight itself."""
        weight: Any = tensor
        part: Tensor = weight.ds_tensor.data if isinstance(tensor, nn.Parameter) else tensor.detach()
        return part

    def joined(self, tensor: Tensor, part: Tensor) -> Tensor:
        """Return a tensor laid out like the weight ``tensor`` whole; a collective of all ranks."""
        if not isinstance(tensor, nn.Parameter):
            return part
        return joined(part, self.ranks.rank * part.numel(), self.shape(tensor), self.ranks)

    def gathering(self, tensor: Tensor, part: Tensor) -> Gathering:
        """Return what joins the parts of all ranks."""
        return partial(self.joined, tensor, part)

    def split(self, tensor: Tensor, whole: Tensor) -> Tensor:
        """Return what this process has of a whole tensor that is laid out like the weight ``tensor``."""
        own = self.part(tensor)
        return padded(whole, self.ranks.rank * own.numel(), own.numel()).to(own)

    def put(self, tensor: Tensor, whole: Tensor) -> None:
        """Give a weight the values of a whole tensor."""
        self._forget()
        super().put(tensor, whole)

    @contextmanager
    def with_parameters(self, copies: Mapping[str, Tensor]) -> Iterator[None]:
        """Compute with ``copies``, parts like the parameters of those names; no gradients pass through here."""
        parameters: dict[str, Any] = dict(self.model.named_parameters())
        own = {name: self.part(parameters[name]) for name in copies}
        self._forget()
        try:
            for name, part in copies.items():
                parameters[name].ds_tensor.data = part
            yield
        finally:
            self._forget()
            for name, part in own.items():
                parameters[name].ds_tensor.data = part

    def _forget(self) -> None:
        """Free gathered weights that DeepSpeed keeps for the next pass: they do not follow a change of the parts."""
        self.engine.optimizer.empty_partition_cache()


def joined(part: Tensor, start: int, shape: torch.Size, ranks: Ranks) -> Tensor:
    """Return the tensor of which each rank has a part, from ``start`` on; what is beyond its end is left out.

    >>> joined(torch.tensor([1.0, 2.0, 0.0]), 0, torch.Size((1, 2)), Ranks())
    tensor([[1., 2.]])
    """
    flat = part.new_zeros(shape.numel())
    flat[start : start + len(part)] = part[: max(0, len(flat) - start)]
    return ranks.all_reduce_sum(flat).reshape(shape)


def padded(whole: Tensor, start: int, length: int) -> Tensor:
    """Return elements of a tensor, all axes one after the other; zeros beyond its end.

    >>> padded(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 3, 2)
    tensor([4., 0.])
    """
    flat = whole.reshape(-1)
    piece = flat[start : start + length]
    return piece if len(piece) == length else nn.functional.pad(piece, (0, length - len(piece)))


def settings(engine: Spec, optimizer: Adamw, weights: Sequence[nn.Parameter]) -> dict[str, Any]:
    """Return the settings of DeepSpeed for a stage that trains ``weights``.

    >>> settings(Spec(zero=3), Adamw(), [nn.Parameter(torch.zeros(2))])["zero_optimization"]["reduce_bucket_size"]
    2
    """
    zero: dict[str, Any] = {
        "stage": engine.stage,
        "overlap_comm": False,
        "reduce_bucket_size": min(BUCKET, sum(weight.numel() for weight in weights)),
        "stage3_max_live_parameters": MAX_LIVE_PARAMETERS,
        "stage3_param_persistence_threshold": 0,
    }
    if engine.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
    if engine.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "managed_gradient_accumulation": False,  # an update has any number of passes
        "gradient_clipping": optimizer.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # its own would have to be compiled
        "bf16": {"enabled": any(weight.dtype == torch.bfloat16 for weight in weights)},
        "steps_per_print": None,
    }


def _deepspeed(context: StageContext) -> Any:
    """Import DeepSpeed for the device of a stage, and let it join the group of the ranks."""
    os.environ["DS_ACCELERATOR"] = context.device.type  # read once, when it is imported
    os.environ.setdefault("LOCAL_RANK", str(context.ranks.local))
    import deepspeed  # noqa: PLC0415 - an optional package, and it reads the variables above

    # it calls functions of torch that newer ones replace
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed\.")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled at the first run
    alone()
    deepspeed.init_distributed()
    return deepspeed

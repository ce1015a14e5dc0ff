"""The training engine of one process: one minibatch in, one optimizer update out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Node, Value
from recipec.runtime.attention.handover import Handover, handed_over
from recipec.runtime.attention.microbatch_packing import Packing
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.distributed.load_balancing import Assignment
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.logging.sampler_gap import Gap, gap_metrics, gap_of
from recipec.runtime.protocols import Policy, TrainEngine
from recipec.runtime.training.culprit import culprit
from recipec.runtime.training.optimizer import AdamW
from recipec.runtime.training.packing import divide, trim_padding
from recipec.spec.train_engine import TrainEngine as TrainEngineSpec


class LocalEngine(TrainEngine):
    """Train in this process: micro-batches by token budget, denominators of the whole minibatch.

    The nodes of the update loop fall in three: those before the policy see the whole minibatch (they make
    ``weight_RT``, so a micro-batch's loss is a plain sum); the policy and the loss see a micro-batch, and its gradient
    is added; the optimizer steps once.  With several ranks each computes some of the micro-batches on a whole copy of
    the weights, and gradients are added up.
    """

    def __init__(self, spec: TrainEngineSpec, context: StageContext, *, policy: Policy, optimizer: AdamW) -> None:
        """Train ``policy`` by ``optimizer``."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.optimizer = optimizer
        self._microbatch_grads: dict[int, list[Tensor | None]] = {}
        """Gradients by number of micro-batch, kept until all can be added in order; only if `bitwise_reproducible`."""
        if spec.recomputes_activations():
            policy.enable_gradient_checkpointing()

    @property
    def lockstep(self) -> bool:
        """Whether all ranks run pass i together, as with sharded weights; each then needs the same number of passes."""
        return self.policy.layout.collective

    @property
    def hands_over(self) -> bool:
        """Whether a rank's micro-batches reuse the prefixes of its earlier ones, which takes additional passes."""
        engine, context = self.spec.hands_over(self.context.ranks.size), self.context
        return engine and context.hands_over and self.policy.attention.hands_over

    @property
    def updates(self) -> int:  # type: ignore[override]
        """Updates taken since the stage began."""
        return self.optimizer.updates

    def begin(self, updates: int) -> None:
        """Take over the policy's parameters, for ``updates`` updates in all."""
        self.optimizer.bind(updates)

    def set_pace(self, pace: float) -> None:
        """Let each update of this step count as ``pace`` updates of the schedule."""
        self.optimizer.pace = pace

    def update(
        self, minibatch: Batch, nodes: tuple[Node, ...], runner: GraphRunner, *, tokens: int, step: int
    ) -> dict[str, float]:
        """Take one update; return its metrics, each already a mean over the minibatch.

        Raises:
            RecipeError: RC763 for a loss or gradient that is not finite, RC769 when memory runs out.
        """
        policy, stage = self.policy, self.context.stage
        at = next(i for i, node in enumerate(nodes) if node.slot in {"policy", "critic"})
        before, forward = nodes[:at], tuple(node for node in nodes[at:] if node.slot != "optimizer")
        prompts = minibatch["prompt_id_R"].tolist() if "prompt_id_R" in minibatch else []
        values = external_inputs(minibatch, before + forward)
        weight = float(runner.run(before, values).get("weight", 1.0)) or 1.0
        for node in before:
            minibatch |= {signal: values[Value(signal, node.id)] for signal in node.outputs}
        rows = minibatch.rows(rows_to_train(minibatch, nodes[at]))
        context, ranks = self.context, self.context.ranks
        packing, assignments = divide(rows, policy, tokens, context, lockstep=self.lockstep)
        with self._memory(step):
            counts_of_ranks = ranks.all_gather(
                f"stage {stage}, step {step + 1}: gradients",
                lambda: self._passes(rows, packing, assignments[context.data_parallel_rank], forward, runner, step),
            )
            self.reduce(assignments)
        counts = sorted(chain.from_iterable(counts_of_ranks), key=lambda one: one["microbatch"])
        metrics = metrics_of(counts, weight)
        if policy.attention.sharing:
            computed = sum(one["computed_tokens"] for one in counts)
            reused = sum(handed_over(packing, _numbers(own)) for own in assignments) if self.hands_over else 0
            metrics["lost_tokens"] = float(packing.recomputed_tokens - reused)
            metrics["token_ratio"] = sum(one["dense_tokens"] for one in counts) / computed if computed else 1.0
        cause = partial(culprit, rows, forward, runner, policy) if ranks.size == 1 else str
        return metrics | self.optimizer.step(prompts, step, metrics["loss"], cause)

    def _passes(
        self,
        rows: Batch,
        packing: Packing,
        assignments: Sequence[Assignment],
        forward: tuple[Node, ...],
        runner: GraphRunner,
        step: int,
    ) -> list[dict[str, Any]]:
        """Add up the gradients of this rank's micro-batches; return the counts of each of them, as JSON values."""
        policy, first = self.policy, self.policy.calls
        counts: list[tuple[dict[str, Any], dict[str, Any]]] = []
        handover = Handover(policy, rows, packing, _numbers(assignments) if self.hands_over else ())
        with self._memory(step):
            for place, assignment in enumerate(assignments):
                number = assignment.microbatch
                policy.calls = first + number  # dropout masks follow the micro-batch, whoever computes it
                microbatch = trim_padding(rows.rows(packing.parts[number])).to(self.context.device)
                dense_tokens, computed_tokens = _tokens_of(policy)
                values = external_inputs(microbatch, forward)
                with handover.during(place):
                    sums = runner.run(forward, values)
                    loss = next(value for key, value in values.items() if key.signal == "loss")
                    self.backward(loss if assignment.counts else 0.0 * loss)
                if self.context.bitwise_reproducible:
                    self._microbatch_grads[number] = self._pop_grads()
                if not (assignment.counts and self.context.is_sequence_parallel_leader):
                    continue
                weight, entropy = entropy_sums(microbatch, values)
                after, gap = _tokens_of(policy), gap_of(microbatch, values)
                own = {
                    "microbatch": number,
                    "weight": weight,
                    "entropy": entropy,
                    "dense_tokens": after[0] - dense_tokens,
                    "computed_tokens": after[1] - computed_tokens,
                    "gap": None if gap is None else asdict(gap),
                }
                counts.append(({"loss": loss.detach(), **sums}, own))
        policy.calls = first + len(packing.parts)
        # tensors are read at the end: reading one waits for the device
        return [
            {**own, "sums": {name: torch.as_tensor(value).tolist() for name, value in sums.items()}}
            for sums, own in counts
        ]

    @contextmanager
    def _memory(self, step: int) -> Iterator[None]:
        """Turn a lack of memory into a diagnostic that says what to lower."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            device = str(self.context.device)
            raise RecipeError(errors.out_of_memory(self.context.stage, step + 1, device)) from error

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch; a loss without a trained weight has none."""
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def reduce(self, assignments: Sequence[Sequence[Assignment]]) -> None:
        """Add up the gradients of all ranks; ``assignments`` are the micro-batches of each."""
        ranks, parameters = self.context.ranks, list(self.policy.trainable_parameters().values())
        if self.context.bitwise_reproducible:
            self._add_in_order(assignments, parameters)
            return
        for parameter in parameters if ranks.size > 1 else ():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            ranks.all_reduce_sum(parameter.grad)

    def _pop_grads(self) -> list[Tensor | None]:
        """Return the gradients of one micro-batch, and reset them for the next one."""
        parameters = self.policy.trainable_parameters().values()
        grads = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        return grads

    def _add_in_order(self, assignments: Sequence[Sequence[Assignment]], parameters: list[nn.Parameter]) -> None:
        """Add the gradients of micro-batches one after the other, as one rank alone does."""
        owner = {one.microbatch: rank for rank, own in enumerate(assignments) for one in own if one.counts}
        for microbatch, rank in sorted(owner.items()):
            grads = self._microbatch_grads.pop(microbatch, [None] * len(parameters))
            for parameter, own_grad in zip(parameters, grads, strict=True):
                grad = self.context.ranks.broadcast(torch.zeros_like(parameter) if own_grad is None else own_grad, rank)
                parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)
        self._microbatch_grads.clear()

    def state(self) -> dict[str, Any]:
        """State of the optimizer."""
        return self.optimizer.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.optimizer.load(state)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight under each of its names."""
        return self.policy.layout.weights()

    def save(self, folder: Path) -> None:
        """Write the policy; every rank gathers, the leader writes."""
        leads = self.context.ranks.leads
        whole = self.policy.layout.gathered(keep=leads) if self.policy.layout.collective else None
        if leads:
            self.policy.save(folder, whole)


def _numbers(assignments: Sequence[Assignment]) -> list[int]:
    return [assignment.microbatch for assignment in assignments]


def _tokens_of(policy: Policy) -> tuple[int, int]:
    """Return the tokens of all samples that a policy's attention got so far, and of these the tokens it computed."""
    counts = policy.attention.shared
    return (0, 0) if counts is None else (counts.dense_tokens, counts.tokens)


def metrics_of(counts: Sequence[Mapping[str, Any]], weight: float) -> dict[str, float]:
    """Add up the counts of micro-batches in their order, so that the sums do not depend on which rank computed them.

    A sum is divided by ``weight``, or by one of its own that stands next to it; it has no mean where that is 0.
    """
    total, own = {"loss": 0.0}, dict[str, float]()
    for one in counts:
        for name, value in one["sums"].items():
            added, share = value if isinstance(value, list) else (value, None)
            total[name] = total.get(name, 0.0) + added
            if share is not None:
                own[name] = own.get(name, 0.0) + share
    weights = {**dict.fromkeys(total, weight), "loss": 1.0, **own}
    metrics = {name: value / weights[name] for name, value in total.items() if weights[name]}
    metrics |= gap_metrics([Gap(**one["gap"]) for one in counts if one["gap"] is not None])
    if total_weight := math.fsum(one["weight"] for one in counts):
        metrics["entropy"] = math.fsum(one["entropy"] for one in counts) / total_weight
    return metrics


def entropy_sums(microbatch: Batch, values: Values) -> tuple[float, float]:
    """Return the sum of a micro-batch's weights, and of the policy's entropy under them."""
    entropy_RT = next((value for key, value in values.items() if key.signal == "entropy_RT"), None)
    weight_RT = microbatch.get("weight_RT")
    if entropy_RT is None or weight_RT is None:
        return 0.0, 0.0
    weight_RT = weight_RT.to(entropy_RT.device)
    return float(weight_RT.sum()), float((entropy_RT.detach() * weight_RT).sum())


def external_inputs(batch: Batch, nodes: tuple[Node, ...]) -> Values:
    """Return the columns of a batch that the nodes read, and that none of them provides, by signal and producer."""
    inside = {node.id for node in nodes}
    values = (node_input.value for node in nodes for node_input in node.inputs)
    return {value: batch[value.signal] for value in values if value.node not in inside}


def rows_to_train(minibatch: Batch, policy: Node) -> Tensor:
    """Return the samples to compute: all, or those with a non-zero advantage if the compiler proved that enough.

    None may be left: the update is then one with a gradient of zero.
    """
    num_rows = minibatch.num_rows
    if "mismatched_R" in minibatch:  # they made the baseline, and have no weight
        return torch.nonzero(~minibatch["mismatched_R"]).flatten().cpu()
    if not policy.decided.get("drop_zero_credit"):
        return torch.arange(num_rows)
    return torch.nonzero((minibatch["advantage_RT"] != 0).any(-1)).flatten().cpu()

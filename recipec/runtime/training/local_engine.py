"""The training engine of one process: one minibatch in, one optimizer update out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Node, Value
from recipec.runtime.attention.handover import Handover
from recipec.runtime.attention.microbatch_packing import Packing
from recipec.runtime.attention.segments import handed_over
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.distributed.dealing import Turn, deal
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.logging.sampler_gap import Gap, gap_metrics, gap_of
from recipec.runtime.protocols import Policy, TrainEngine
from recipec.runtime.training.culprit import culprit
from recipec.runtime.training.optimizer import AdamW
from recipec.runtime.training.packing import costs, pack_for, trim_padding
from recipec.spec.train_engine import TrainEngine as TrainEngineSpec


class LocalEngine(TrainEngine):
    """Train in this process: micro-batches by token budget, denominators of the whole minibatch.

    The nodes of the update loop fall in three: those before the policy see the whole minibatch (they make
    ``weight_RT``, so a micro-batch's loss is a plain sum); the policy and the loss see a micro-batch, and its gradient
    is added; the optimizer steps once.  With several ranks each computes some of the micro-batches on a whole copy of
    the weights, and gradients are added up.
    """

    at_least_one = False
    """Whether each rank has to make a backward pass."""

    def __init__(self, spec: TrainEngineSpec, context: StageContext, *, policy: Policy, optimizer: AdamW) -> None:
        """Train ``policy`` by ``optimizer``."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.optimizer = optimizer
        self._apart: dict[int, list[Tensor | None]] = {}
        """Gradients of micro-batches that are not added up yet, where several ranks compute the bits of one."""
        if spec.recomputes_activations():
            policy.enable_gradient_checkpointing()

    @property
    def rounds(self) -> bool:
        """Whether every forward and backward pass is one of all ranks together, so that each needs the same number."""
        return self.policy.layout.collective

    @property
    def hands_over(self) -> bool:
        """Whether the micro-batches of a rank hand shared prefixes over, which takes passes that others do not make."""
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
        values = outer_values(minibatch, before + forward)
        weight = float(runner.run(before, values).get("weight", 1.0)) or 1.0
        for node in before:
            minibatch |= {signal: values[Value(signal, node.id)] for signal in node.outputs}
        rows = credited_rows(minibatch, nodes[at])
        credited, ranks = minibatch.rows(rows), self.context.ranks
        packing = pack_for(credited, policy, tokens, 1 if self.context.exact else self.context.teams)
        dealt = deal(
            costs(credited, packing, policy),
            self.context.teams,
            rounds=self.rounds,
            at_least_one=self.at_least_one,
        )
        with self._memory(step):
            found = ranks.all_gather(
                f"stage {stage}, step {step + 1}: gradients",
                lambda: self._passes(credited, packing, dealt[self.context.team], forward, runner, step),
            )
            self.reduce(dealt)
        parts = sorted((part for one in found for part in one), key=lambda part: part["part"])
        metrics = metrics_of(parts, weight)
        if policy.attention.sharing:
            computed = sum(part["computed"] for part in parts)
            handed = (
                sum(handed_over(packing, [turn.part for turn in turns]) for turns in dealt) if self.hands_over else 0
            )
            metrics["lost_tokens"] = float(packing.recomputed_tokens - handed)
            metrics["token_ratio"] = sum(part["given"] for part in parts) / computed if computed else 1.0
        cause = partial(culprit, credited, forward, runner, policy) if ranks.size == 1 else str
        return metrics | self.optimizer.step(prompts, step, metrics["loss"], cause)

    def _passes(
        self,
        rows: Batch,
        packing: Packing,
        turns: Sequence[Turn],
        forward: tuple[Node, ...],
        runner: GraphRunner,
        step: int,
    ) -> list[dict[str, Any]]:
        """Add up the gradients of this rank's micro-batches; return what each of them counts, as JSON values."""
        policy, first = self.policy, self.policy.calls
        found: list[tuple[dict[str, Any], dict[str, Any]]] = []
        handover = Handover(policy, rows, packing, [turn.part for turn in turns] if self.hands_over else ())
        with self._memory(step):
            for place, turn in enumerate(turns):
                policy.calls = first + turn.part  # dropout masks follow the micro-batch, whoever computes it
                part = trim_padding(rows.rows(packing.parts[turn.part])).to(self.context.device)
                given, computed = _shared_by(policy)
                made = outer_values(part, forward)
                with handover.during(place):
                    counted = runner.run(forward, made)
                    loss = next(value for key, value in made.items() if key.signal == "loss")
                    self.backward(loss if turn.counts else 0.0 * loss)
                if self.context.exact:
                    self._apart[turn.part] = self._taken()
                if not (turn.counts and self.context.leads_team):
                    continue
                weight, entropy = entropy_sums(part, made)
                after, gap = _shared_by(policy), gap_of(part, made)
                own = {
                    "part": turn.part,
                    "weight": weight,
                    "entropy": entropy,
                    "given": after[0] - given,
                    "computed": after[1] - computed,
                    "gap": None if gap is None else asdict(gap),
                }
                found.append(({"loss": loss.detach(), **counted}, own))
        policy.calls = first + len(packing.parts)
        # tensors are read at the end: reading one waits for the device
        return [{**own, "sums": {name: float(value) for name, value in sums.items()}} for sums, own in found]

    @contextmanager
    def _memory(self, step: int) -> Iterator[None]:
        """Say what to lower where memory runs out."""
        try:
            yield
        except torch.OutOfMemoryError as error:
            device = str(self.context.device)
            raise RecipeError(errors.out_of_memory(self.context.stage, step + 1, device)) from error

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch; a loss without a trained weight has none."""
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]

    def reduce(self, dealt: Sequence[Sequence[Turn]]) -> None:
        """Add up the gradients of all ranks, which compute parts of one sum; ``dealt`` are their micro-batches."""
        ranks, parameters = self.context.ranks, list(self.policy.trainable_parameters().values())
        if self.context.exact:
            self._add_in_order(dealt, parameters)
            return
        for parameter in parameters if ranks.size > 1 else ():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            ranks.all_reduce_sum(parameter.grad)

    def _taken(self) -> list[Tensor | None]:
        """Return the gradients of one micro-batch, and begin the next with none."""
        found = [parameter.grad for parameter in self.policy.trainable_parameters().values()]
        for parameter in self.policy.trainable_parameters().values():
            parameter.grad = None
        return found

    def _add_in_order(self, dealt: Sequence[Sequence[Turn]], parameters: list[nn.Parameter]) -> None:
        """Add the gradients of micro-batches one after the other, as one rank alone does."""
        owner = {turn.part: rank for rank, turns in enumerate(dealt) for turn in turns if turn.counts}
        for part in sorted(owner):
            own = self._apart.pop(part, [None] * len(parameters))
            for parameter, grad in zip(parameters, own, strict=True):
                sent = self.context.ranks.broadcast(torch.zeros_like(parameter) if grad is None else grad, owner[part])
                parameter.grad = sent if parameter.grad is None else parameter.grad.add_(sent)
        self._apart.clear()

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


def _shared_by(policy: Policy) -> tuple[int, int]:
    """Tokens of the samples that a policy's attention was given so far, and those of them that it computed."""
    counts = policy.attention.shared
    return (0, 0) if counts is None else (counts.dense_tokens, counts.tokens)


def metrics_of(parts: Sequence[Mapping[str, Any]], weight: float) -> dict[str, float]:
    """Add up what the micro-batches counted, in their order: the sums do not depend on who computed them."""
    total = {"loss": 0.0}
    for part in parts:
        for name, value in part["sums"].items():
            total[name] = total.get(name, 0.0) + value
    metrics = {name: value / (1.0 if name == "loss" else weight) for name, value in total.items()}
    metrics |= gap_metrics([Gap(**part["gap"]) for part in parts if part["gap"] is not None])
    if seen := math.fsum(part["weight"] for part in parts):
        metrics["entropy"] = math.fsum(part["entropy"] for part in parts) / seen
    return metrics


def entropy_sums(part: Batch, made: Values) -> tuple[float, float]:
    """Sum of a micro-batch's weights, and of the policy's entropy under them."""
    entropy_RT = next((v for key, v in made.items() if key.signal == "entropy_RT"), None)
    weight_RT = part.get("weight_RT")
    if entropy_RT is None or weight_RT is None:
        return 0.0, 0.0
    weight_RT = weight_RT.to(entropy_RT.device)
    return float(weight_RT.sum()), float((entropy_RT.detach() * weight_RT).sum())


def outer_values(batch: Batch, nodes: tuple[Node, ...]) -> Values:
    """Name the columns of a batch as the nodes ask for them: by signal and producer."""
    inside = {node.id for node in nodes}
    wanted = (given.value for node in nodes for given in node.inputs)
    return {value: batch[value.signal] for value in wanted if value.node not in inside}


def credited_rows(minibatch: Batch, policy: Node) -> Tensor:
    """Return the samples to compute: all, or those with a non-zero advantage if the compiler proved that enough.

    None may be left: the update is then one with a gradient of zero.
    """
    num_rows = minibatch.num_rows
    if "mismatched_R" in minibatch:  # they made the baseline, and have no weight
        return torch.nonzero(~minibatch["mismatched_R"]).flatten().cpu()
    if not policy.decided.get("drop_zero_credit"):
        return torch.arange(num_rows)
    return torch.nonzero((minibatch["advantage_RT"] != 0).any(-1)).flatten().cpu()

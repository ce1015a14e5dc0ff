"""The training engine of one process: one minibatch in, one optimizer update out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Node, Value
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.logging.sampler_gap import Gap, gap_metrics, gap_of
from recipec.runtime.protocols import Policy, TrainEngine
from recipec.runtime.training.optimizer import AdamW
from recipec.runtime.training.packing import pack_for, trim_padding
from recipec.spec.train_engine import Local as Spec


class LocalEngine(TrainEngine):
    """Train in this process: micro-batches by token budget, denominators of the whole minibatch.

    The nodes of the update loop fall in three: those before the policy see the whole minibatch (they make
    ``weight_RT``, so a micro-batch's loss is a plain sum); the policy and the loss see a micro-batch, and its gradient
    is added; the optimizer steps once.
    """

    def __init__(self, spec: Spec, context: StageContext, *, policy: Policy, optimizer: AdamW) -> None:
        """Train ``policy`` by ``optimizer``."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.optimizer = optimizer
        if spec.gradient_checkpointing:
            policy.checkpoint_activations()

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
        at = next(i for i, node in enumerate(nodes) if node.slot == "policy")
        before, forward = nodes[:at], tuple(node for node in nodes[at:] if node.slot != "optimizer")
        prompts = minibatch["prompt_id_R"].tolist() if "prompt_id_R" in minibatch else []
        values = outer_values(minibatch, before + forward)
        weight = float(runner.run(before, values).get("weight", 1.0)) or 1.0
        for node in before:
            minibatch |= {signal: values[Value(signal, node.id)] for signal in node.outputs}
        rows = credited_rows(minibatch, nodes[at])
        packing = pack_for(minibatch.rows(rows), policy, tokens)
        shared = _shared_by(policy)
        total: dict[str, Tensor | float] = {"loss": 0.0}
        seen = entropy = 0.0
        gaps: list[Gap] = []
        try:
            for index in packing.parts:
                part = trim_padding(minibatch.rows(rows[index])).to(self.context.device)
                made = outer_values(part, forward)
                found = runner.run(forward, made)
                loss = next(value for key, value in made.items() if key.signal == "loss")
                self._backward(loss)
                for name, value in {"loss": loss.detach(), **found}.items():
                    total[name] = total.get(name, 0.0) + value
                share, spread = entropy_sums(part, made)
                seen, entropy = seen + share, entropy + spread
                gaps += [gap] if (gap := gap_of(part, made)) is not None else []
            metrics = {name: float(v) / (1.0 if name == "loss" else weight) for name, v in total.items()}
            metrics |= gap_metrics(gaps)
            if seen:
                metrics["entropy"] = entropy / seen
            if policy.attention.sharing:
                metrics["lost_tokens"] = float(packing.recomputed_tokens)
                metrics["token_ratio"] = ratio(shared, _shared_by(policy))
            return metrics | self.optimizer.step(prompts, step, float(total["loss"]))
        except torch.OutOfMemoryError as error:
            raise RecipeError(errors.out_of_memory(stage, step + 1, str(self.context.device))) from error

    @staticmethod
    def _backward(loss: Tensor) -> None:
        """Add the gradient of one micro-batch."""
        loss.backward()  # type: ignore[no-untyped-call]

    def state(self) -> dict[str, Any]:
        """State of the optimizer."""
        return self.optimizer.state()

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.optimizer.load(state)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every weight under each of its names."""
        yield from self.policy.model.state_dict().items()

    def save(self, folder: Path) -> None:
        """Write the policy."""
        self.policy.save(folder)


def _shared_by(policy: Policy) -> tuple[int, int]:
    """Tokens of the samples that a policy's attention was given so far, and those of them that it computed."""
    counts = policy.attention.shared
    return (0, 0) if counts is None else (counts.dense_tokens, counts.tokens)


def ratio(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Tokens of rows over those computed, between two moments; 1 where none were.

    >>> ratio((10, 10), (40, 20))
    3.0
    """
    computed = after[1] - before[1]
    return (after[0] - before[0]) / computed if computed else 1.0


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

"""The training engine: one minibatch in, one optimizer update out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Node, Value
from recipec.runtime.attention.microbatch_packing import Packing, Sharing, pack
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner, Values
from recipec.runtime.training.minibatch import groups, microbatches
from recipec.runtime.training.optimizer import AdamW
from recipec.spec.machine import Local as Spec


class LocalEngine:
    """Train in this process: micro-batches by token budget, denominators of the whole minibatch.

    The nodes of the update loop fall in three: those before the policy see the whole minibatch
    (they make ``weight_RT``, so a micro-batch's loss is a plain sum); the policy and all after it see a micro-batch;
    the optimizer steps once.
    """

    def __init__(self, spec: Spec, context: StageContext) -> None:
        """Take the engine's parameters."""
        self.spec = spec
        self.context = context
        if spec.gradient_checkpointing and context.policy is not None:
            context.policy.checkpoint_activations()

    def update(
        self, minibatch: Batch, nodes: tuple[Node, ...], runner: GraphRunner, optimizer: AdamW, *, tokens: int
    ) -> dict[str, float]:
        """Take one update; return its metrics, each already a mean over the minibatch.

        Raises:
            RecipeError: RC763 for a loss or gradient that is not finite, RC769 when memory runs out.
        """
        context = self.context
        policy = next(i for i, node in enumerate(nodes) if node.slot == "policy")
        prompts = minibatch["prompt_id_R"].tolist() if "prompt_id_R" in minibatch else []
        values = outer_values(minibatch, nodes)
        weight = float(runner.run(nodes[:policy], values).get("weight", 1.0)) or 1.0
        for node in nodes[:policy]:
            minibatch |= {signal: values[Value(signal, node.id)] for signal in node.outputs}
        rows = credited_rows(minibatch, nodes[policy])
        found_parts = pack_for(minibatch.rows(rows), context.policy, tokens)
        shared = shared_by(context.policy)
        total: dict[str, Tensor | float] = {"loss": 0.0}
        seen = entropy = 0.0
        try:
            for index in found_parts.parts:
                part = trim_padding(minibatch.rows(rows[index])).to(context.device)
                made = outer_values(part, nodes[policy:])
                found = runner.run(nodes[policy:], made)
                loss = next(v.detach() for key, v in made.items() if key.signal == "loss")
                if not torch.isfinite(loss):
                    raise RecipeError(errors.not_finite("the loss", context.stage, context.step + 1, prompts))
                for name, value in {"loss": loss, **found}.items():
                    total[name] = total.get(name, 0.0) + value
                share, spread = entropy_sums(part, made)
                seen, entropy = seen + share, entropy + spread
            metrics = {name: float(v) / (1.0 if name == "loss" else weight) for name, v in total.items()}
            if seen:
                metrics["entropy"] = entropy / seen
            if sharing_of(context.policy):
                metrics["lost_tokens"] = float(found_parts.lost)
                metrics["token_ratio"] = ratio(shared, shared_by(context.policy))
            return metrics | optimizer.step(prompts)
        except torch.OutOfMemoryError as error:
            raise RecipeError(errors.out_of_memory(context.stage, context.step + 1, str(context.device))) from error


def sharing_of(policy: Any) -> Sharing:
    """What the rows of one forward pass of a policy share."""
    found: Sharing = getattr(getattr(policy, "attention", None), "sharing", "")
    return found


def shared_by(policy: Any) -> tuple[int, int]:
    """Tokens of rows that a policy's attention was given so far, and those of them that it computed."""
    found = getattr(getattr(policy, "attention", None), "shared", None)
    return (0, 0) if found is None else (found.dense_tokens, found.tokens)


def ratio(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Tokens of rows over those computed, between two moments; 1 where none were.

    >>> ratio((10, 10), (40, 20))
    3.0
    """
    computed = after[1] - before[1]
    return (after[0] - before[0]) / computed if computed else 1.0


def pack_for(batch: Batch, policy: Any, tokens: int) -> Packing:
    """Divide rows among forward passes as a policy's attention shares them, which may choose itself by these rows.

    Raises:
        RecipeError: RC768, one row or pair alone is larger.
    """
    attention: Any = getattr(policy, "attention", None)
    if getattr(policy, "image_encoder", None) is not None:
        batch = policy.keyed(batch)
    if batch.num_rows and hasattr(attention, "choose"):
        attention.choose(batch["tokens_RT"], batch["attend_RT"], batch["trained_RT"] & batch["attend_RT"], tokens)
    padded = bool(getattr(attention, "padded", True))
    return pack_rows(batch, tokens, padded=padded, sharing=sharing_of(policy))


def pack_rows(batch: Batch, tokens: int, *, padded: bool, sharing: Sharing = "") -> Packing:
    """Divide rows among forward passes of at most ``tokens`` tokens; rows of one pair stay together.

    Raises:
        RecipeError: RC768, one row or pair alone is larger.
    """
    lengths_R, unit_R = batch["attend_RT"].sum(-1), batch.get("by_pair_R")
    if not sharing or not len(lengths_R):
        return Packing(tuple(microbatches(lengths_R, unit_R, tokens, padded=padded)), 0)
    units = groups(unit_R if unit_R is not None else torch.arange(len(lengths_R)))
    prompts_R = None
    if sharing == "prompts":
        trained_RT = batch["trained_RT"] & batch["attend_RT"]
        prompts_R = torch.where(trained_RT.any(-1), trained_RT.int().argmax(-1), lengths_R)
    return pack(batch["tokens_RT"], lengths_R, units, tokens, prompts_R)


def entropy_sums(part: Batch, made: Values) -> tuple[float, float]:
    """Sum of a micro-batch's weights, and of the policy's entropy under them."""
    entropy_RT = next((v for key, v in made.items() if key.signal == "entropy_RT"), None)
    weight_RT = part.get("weight_RT")
    if entropy_RT is None or weight_RT is None:
        return 0.0, 0.0
    weight_RT = weight_RT.to(entropy_RT.device)
    return float(weight_RT.sum()), float((entropy_RT.detach() * weight_RT).sum())


class ScoringPass:
    """A log-probability pass over a whole batch, in micro-batches: the old policy's, the reference's."""

    def __init__(self, inner: Any, output: str, *, tokens: int, policy: Any) -> None:
        """Wrap ``inner(tokens_RT, attend_RT, trained_RT)``; its log-probabilities come out as ``output``.

        ``policy`` computes them, or the ``scorer`` that ``inner`` has of its own.
        """
        self.inner = inner
        self.output = output
        self.tokens = tokens
        self.policy = getattr(inner, "scorer", policy)

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, *images: Any) -> dict[str, Tensor]:
        """Score every trained token without a gradient; ``images`` are ``pixels_I`` and ``image_row_I``, or nothing."""
        batch = Batch(tokens_RT=tokens_RT, attend_RT=attend_RT, trained_RT=trained_RT)
        batch |= dict(zip(("pixels_I", "image_row_I"), images, strict=False))
        found_RT = torch.zeros(tokens_RT.shape, dtype=torch.float32)
        with torch.no_grad():
            for index in pack_for(batch, self.policy, self.tokens).parts:
                part = trim_padding(batch.rows(index))
                made = self.inner(*(part[name] for name in batch))
                value_RT = made.get(self.output, made.get("logprob_RT"))
                found_RT[index, : value_RT.shape[1]] = value_RT.cpu()
        return {self.output: found_RT}


class ReferencePass(ScoringPass):
    """A pass by a reference, which follows the policy and has a state of its own."""

    def after_update(self, updates: int) -> None:
        """Tell the reference how many updates the stage has taken."""
        if hasattr(self.inner, "after_update"):
            self.inner.after_update(updates)

    def state(self) -> dict[str, Any]:
        """State of the reference."""
        found: dict[str, Any] = self.inner.state()
        return found

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.inner.load(state)


def outer_values(batch: Batch, nodes: tuple[Node, ...]) -> Values:
    """Name the columns of a batch as the nodes ask for them: by signal and producer."""
    inside = {node.id for node in nodes}
    wanted = (given.value for node in nodes for given in node.inputs)
    return {value: batch[value.signal] for value in wanted if value.node not in inside}


def credited_rows(minibatch: Batch, policy: Node) -> Tensor:
    """Rows that go through the forward pass; those whose credit is exactly 0 stay out where the compiler proved it.

    None may be left: the update is then one with a gradient of zero.
    """
    num_rows = minibatch.num_rows
    if not policy.params.get("drop_zero_credit"):
        return torch.arange(num_rows)
    return torch.nonzero((minibatch["advantage_RT"] != 0).any(-1)).flatten().cpu()


def trim_padding(batch: Batch) -> Batch:
    """Cut the padding that no row of the batch needs."""
    width = int(batch["attend_RT"].sum(-1).max())
    return Batch({n: c[:, :width] if n.endswith("_RT") else c for n, c in batch.items()})

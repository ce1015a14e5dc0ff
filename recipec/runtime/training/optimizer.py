"""The update: gradients add up over micro-batches, then one step of AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recipec.diagnostics.errors import run as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.model.reward_model import HEAD
from recipec.runtime.protocols import Part, Policy
from recipec.runtime.training.master_weights import MasterWeights, adamw, decayed
from recipec.spec import optimizer as specs

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext

_MOST_SKIPS = 3  # in a row: beyond that the run is broken, not unlucky


class AdamW(Part):
    """Adam with decoupled decay over the policy's trained parameters; see :class:`recipec.spec.optimizer.Adamw`.

    Weights that are not float32 keep a float32 copy, so that updates below their resolution are not lost.
    """

    def __init__(self, spec: specs.Scheduled, context: StageContext, *, policy: Policy) -> None:
        """Optimise ``policy``; ``bind`` takes its parameters."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.updates = 0
        self.skipped = 0
        self.total = 1
        self.pace = 1.0
        """How far an update goes in the schedule; below 1 in a step that has more updates than were planned for it."""
        self.place = 0.0
        self.named: dict[str, nn.Parameter] = {}
        self.weights: MasterWeights

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Freeze what the recipe freezes; return the other parameters by name.

        Raises:
            RecipeError: RC773, a name under ``freeze`` matches no parameter, or nothing is left to train.
        """
        model = self.policy.model
        freeze(model, self.spec.freeze, self.policy.module_groups())
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not trained:
            raise RecipeError(errors.nothing_to_train("every parameter is frozen"))
        return trained

    def bind(self, total: int, weights: MasterWeights | None = None) -> None:
        """Optimise the trained parameters over ``total`` updates; ``weights`` of an engine that keeps them itself.

        Raises:
            RecipeError: RC773, as :meth:`trained`.
        """
        self.total = max(1, total)
        self.weights = MasterWeights(self.spec, self.trainable_parameters(), self.made) if weights is None else weights
        self.named = dict(self.weights.named)

    def made(self, weights: Mapping[str, Tensor]) -> Sequence[torch.optim.Optimizer]:
        """Return the optimizers of PyTorch that update weights in float32, given by name."""
        assert isinstance(self.spec, specs.Adamw)
        return [adamw(self.spec, self.context.device, weights.values())]

    def learning_rate(self, update: int, place: float | None = None) -> float:
        """Learning rate of an update, counted from 0; ``place`` is where the schedule is, the same if absent.

        Linear warm-up to the peak, then constant, or down to ``min_ratio`` of it, which an update after the last would
        have: along a line, half a cosine, or constant and then along a line (``wsd``).
        """
        spec = self.spec
        place = float(update) if place is None else place
        warmup, done = spec.warmup_updates if spec.warmup_updates is not None else 0, float(update)
        if spec.warmup_ratio is not None:
            warmup, done = math.ceil(spec.warmup_ratio * self.total), place
        if done < warmup:
            return spec.learning_rate * (done + 1) / (warmup + 1)
        if spec.schedule == "constant":
            return spec.learning_rate
        begin = warmup if spec.schedule != "wsd" else max(warmup, self.total - math.ceil(spec.decay_ratio * self.total))
        done = min(1.0, max(0.0, place - begin) / max(1, self.total - begin))
        share = 0.5 * (1 + math.cos(math.pi * done)) if spec.schedule == "cosine" else 1 - done
        return spec.learning_rate * (spec.min_ratio + (1 - spec.min_ratio) * share)

    def step(
        self, prompts: list[int], step: int, loss: float = 0.0, cause: Callable[[], str] = str
    ) -> dict[str, float]:
        """Take one update with the gradients of ``loss`` added so far; ``prompts`` and ``step`` name the batch.

        ``cause`` finds the row that made them not finite, and is called only then.

        Raises:
            RecipeError: RC763, the loss or the gradient is not finite and the recipe says ``stop``, or it happened too
                often; or a weight is not finite after the update, which cannot be taken back.
        """
        rate = self.learning_rate(self.updates, self.place)
        norm = self.weights.step(rate, finite_loss=math.isfinite(loss))
        finite = math.isfinite(norm) and math.isfinite(loss)
        if finite:
            if not self.weights.finite():
                raise RecipeError(errors.not_finite("a weight after the update", self.context.stage, step + 1, prompts))
            self.skipped = 0
        else:
            self.skipped += 1
            rate = 0.0
            if self.spec.nonfinite == "stop" or self.skipped > _MOST_SKIPS:
                what = "the gradient" if math.isfinite(loss) else "the loss"
                raise RecipeError(errors.not_finite(what, self.context.stage, step + 1, prompts, cause()))
        self.updates += 1
        self.place += self.pace
        return {"grad_norm": norm, "learning_rate": rate, "skipped_updates": float(not finite)}

    def state(self) -> dict[str, Any]:
        """Counters, and moments and float32 copies by parameter name."""
        counters = {"updates": self.updates, "place": self.place, "skipped": self.skipped}
        return {**counters, **self.weights.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.updates, self.skipped = int(state["updates"]), int(state["skipped"])
        self.place = float(state.get("place", self.updates))
        self.weights.load(state)


class Muon(AdamW):
    """Muon over matrices, AdamW over the rest; see :class:`recipec.spec.optimizer.Muon`."""

    def made(self, weights: Mapping[str, Tensor]) -> Sequence[torch.optim.Optimizer]:
        """Part the weights: those of embeddings and of the output layer are not matrices between activations."""
        spec, model = self.spec, self.policy.model
        assert isinstance(spec, specs.Muon)
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        outer = {id(parameter) for end in ends if end is not None for parameter in end.parameters()}
        named = dict(model.named_parameters())
        head = {name for name in weights if name.partition(".")[0] == HEAD}  # of a reward model
        inside = [
            n for n, weight in weights.items() if weight.ndim == 2 and n not in head and id(named[n]) not in outer
        ]
        rest = [weight for name, weight in weights.items() if name not in set(inside)]
        rate = spec.learning_rate
        optimizers: list[torch.optim.Optimizer] = []
        if inside:
            optimizers.append(
                torch.optim.Muon(
                    [weights[name] for name in inside],
                    lr=rate,
                    weight_decay=spec.weight_decay,
                    momentum=spec.momentum,
                    nesterov=spec.nesterov,
                    ns_steps=spec.iterations,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if rest:
            groups = decayed(rest, spec.weight_decay)
            optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=spec.betas, eps=spec.epsilon, fused=True))
        return optimizers


class Adafactor(AdamW):
    """Second moments by row and column; see :class:`recipec.spec.optimizer.Adafactor`."""

    def made(self, weights: Mapping[str, Tensor]) -> Sequence[torch.optim.Optimizer]:
        """Return PyTorch's Adafactor."""
        spec = self.spec
        assert isinstance(spec, specs.Adafactor)
        return [
            torch.optim.Adafactor(
                decayed(weights.values(), spec.weight_decay),
                lr=spec.learning_rate,
                beta2_decay=spec.beta2_decay,
                eps=(None, spec.scale_floor),
                d=spec.clip_threshold,
            )
        ]


def freeze(model: nn.Module, names: Sequence[str], parts: Mapping[str, list[nn.Parameter]]) -> None:
    """Give the parameters of parts, or with names that begin with or contain one of ``names``, no gradients.

    Raises:
        RecipeError: RC773, a name is neither a module group nor part of a parameter name.
    """
    for frozen in names:
        hits = parts.get(frozen) or [p for name, p in model.named_parameters() if _matches(name, frozen)]
        if not hits:
            known = f"; parts of this policy are {', '.join(f'`{name}`' for name in sorted(parts))}" if parts else ""
            raise RecipeError(errors.nothing_to_train(f"no parameter's name matches `freeze: {frozen}`{known}"))
        for parameter in hits:
            parameter.requires_grad_(False)


def _matches(name: str, frozen: str) -> bool:
    return name.startswith(frozen) or frozen in name.split(".")

"""What the policy is held against: itself as it entered the stage, itself a while ago, or another model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import model as errors, vision as vision_errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.context import StageContext
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import merged, origin_of
from recipec.runtime.protocols import Reference
from recipec.spec import reference as specs


def _scored(
    policy: CausalLm, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any
) -> dict[str, Tensor]:
    """Score without gradient and without dropout, at the policy's temperature and by its attention."""
    training = policy.model.training
    policy.eval()
    try:
        with torch.no_grad():
            outputs = policy.logprobs(tokens_RT, attend_RT, trained_RT, **images, entropy=False)
    finally:
        policy.model.train(training)
    return {"ref_logprob_RT": outputs["logprob_RT"]}


def _copies(policy: CausalLm) -> dict[str, Tensor]:
    """Copy what the stage trains; all else stays as it is, so it need not be kept twice."""
    return {name: policy.layout.part(parameter).clone() for name, parameter in policy.trainable_parameters().items()}


class Frozen(Reference):
    """The policy as it entered the stage, or another model; see :class:`recipec.spec.reference.Frozen`.

    Built before the first update, it keeps (a continued run starts from the same weights and freezes them again)

    * nothing, where the stage put a fresh adapter on the policy: with the adapter off it is the policy that entered;
    * a copy of the adapter, where the stage trains its parent's adapter further: off, it would be the base model;
    * a copy of the trained weights otherwise;
    * the other model, where ``from`` names one.
    """

    scorer: CausalLm

    def __init__(self, spec: specs.Frozen, context: StageContext, *, policy: CausalLm) -> None:
        """Keep what is needed, while the policy is as it entered.

        Raises:
            RecipeError: RC725, another model that does not share the policy's tokenizer; and what loading it raises.
        """
        self.scorer = policy
        self.copies: dict[str, Tensor] = {}
        self.mode = "other" if spec.from_ else "copy"
        if spec.from_:
            self.scorer = _other(spec.from_, context, policy)
        elif policy.adapter_is_new:
            self.mode = "adapter_off"
        else:
            self.mode = "adapter_copy" if policy.peft_model is not None else "weights_copy"
            self.copies = _copies(policy)

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> dict[str, Tensor]:
        """Return ``ref_logprob_RT`` in the space of ``logprob_RT``; ``images`` are those that the policy sees."""
        with self._entered()():
            return _scored(self.scorer, tokens_RT, attend_RT, trained_RT, **images)

    def _entered(self) -> Callable[[], AbstractContextManager[None]]:
        if self.mode == "adapter_off":
            return self.scorer.disable_adapter
        return lambda: self.scorer.with_parameters(self.copies)


class Lagged(Reference):
    """A copy of what the policy trains, some updates old; see :class:`recipec.spec.reference.Lagged`.

    It is the only one that a stage keeps, also where the ratio is taken to it: there is then no old policy.
    """

    scorer: CausalLm

    def __init__(self, spec: specs.Lagged, context: StageContext, *, policy: CausalLm) -> None:  # noqa: ARG002
        """Begin with the policy as it entered the stage."""
        self.spec = spec
        self.scorer = policy
        self.copies = _copies(self.scorer)
        self.synced = 0

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> dict[str, Tensor]:
        """Return ``ref_logprob_RT`` in the space of ``logprob_RT``; ``images`` are those that the policy sees."""
        with self.scorer.with_parameters(self.copies):
            return _scored(self.scorer, tokens_RT, attend_RT, trained_RT, **images)

    def after_update(self, updates: int) -> None:
        """Copy the policy when ``updates``, counted from the stage's start, is a multiple of the period."""
        if updates % self.spec.sync_every_updates == 0 and updates != self.synced:
            for name, parameter in self.scorer.trainable_parameters().items():
                self.copies[name].copy_(
                    self.scorer.layout.part(parameter)
                )  # in place: never two copies, not for a moment
            self.synced = updates

    def state(self) -> dict[str, Any]:
        """The copy, and the update that it was taken after."""
        layout, parameters = self.scorer.layout, self.scorer.trainable_parameters()
        copies = {name: layout.gathering(parameters[name], copy) for name, copy in self.copies.items()}
        return {"synced": self.synced, "copies": copies}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.synced = int(state["synced"])
        layout, parameters = self.scorer.layout, self.scorer.trainable_parameters()
        self.copies = {name: layout.split(parameters[name], one).clone() for name, one in state["copies"].items()}


def _other(name: str, context: StageContext, policy: CausalLm) -> CausalLm:
    """Load the model that ``from`` names, under the policy's tokenizer and attention."""
    if name == "scratch":
        raise RecipeError(errors.no_model("scratch (as a reference)"))
    spec = type(policy.spec)(dtype=policy.spec.dtype)
    other = type(policy)(spec, context, merged(origin_of(name, context), context))
    its_kind, my_kind = str(other.model.config.model_type), str(policy.model.config.model_type)
    if policy.image_encoder is not None and its_kind != my_kind:
        raise RecipeError(vision_errors.other_family(name, its_kind, my_kind))
    mine, its = policy.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if mine != its or other.vocabulary < policy.vocabulary:
        raise RecipeError(errors.vocabulary_mismatch(f"reference `{name}`", len(mine), other.vocabulary))
    other.set_attention(policy.attention.unbound_copy())
    return other

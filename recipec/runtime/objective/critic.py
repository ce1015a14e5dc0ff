"""The critic of PPO: a value head on a model of its own, trained together with the policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import Node
from recipec.runtime.batch import Batch
from recipec.runtime.context import StageContext
from recipec.runtime.graph_runner import GraphRunner
from recipec.runtime.model import logprob_head
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.origin import merged, origin_of
from recipec.runtime.model.reward_model import RewardModel
from recipec.runtime.protocols import Critic
from recipec.runtime.training.local_engine import LocalEngine
from recipec.runtime.training.optimizer import AdamW
from recipec.spec import critic as specs, policy as policy_specs


class Decoder(RewardModel):
    """A decoder with a scalar head that is read before each trained token."""

    def values(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> Tensor:
        """Return the values of the tokens before each trained token, float32; 0 elsewhere.

        Raises:
            RecipeError: RC736, a row is longer than the model's positions.
        """
        tokens_RT, attend_RT, scored_RT = logprob_head.scored(self, tokens_RT, attend_RT, trained_RT)
        value_M = self.layout.inside(lambda: self._values(tokens_RT, attend_RT, scored_RT))
        return logprob_head.placed(value_M, scored_RT)


class ValueModel(Critic):
    """A critic with an optimizer of its own; see :class:`recipec.spec.critic.ValueModel`.

    It is trained by an engine of the kind that trains the policy, over the same ranks.
    """

    model: Decoder

    def __init__(
        self, spec: specs.ValueModel, context: StageContext, *, policy: CausalLm, train_engine: LocalEngine
    ) -> None:
        """Load the critic, before the first update.

        Raises:
            RecipeError: RC725, a model that does not share the policy's tokenizer; what loading a model raises.
        """
        self.spec = spec
        self.model = _loaded(spec, context, policy)
        optimizer = AdamW(spec.optimizer, context, policy=self.model)
        self.engine = type(train_engine)(train_engine.spec, context, policy=self.model, optimizer=optimizer)

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> dict[str, Tensor]:
        """Return ``value_RT``."""
        return {"value_RT": self.model.values(tokens_RT, attend_RT, trained_RT)}

    def update(
        self, minibatch: Batch, nodes: tuple[Node, ...], runner: GraphRunner, *, tokens: int, step: int
    ) -> dict[str, float]:
        """Take one update by the critic's own nodes; return its metrics."""
        self.model.train()
        metrics = self.engine.update(minibatch, nodes, runner, tokens=tokens, step=step)
        self.model.eval()
        return {f"critic/{name}": value for name, value in metrics.items()}

    def state(self) -> dict[str, Any]:
        """Weights, and the state of the optimizer."""
        return {"model": self.model.state(), "optimizer": self.engine.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()``."""
        self.model.load(state["model"])
        self.engine.load(state["optimizer"])


def _loaded(spec: specs.ValueModel, context: StageContext, policy: CausalLm) -> Decoder:
    """Load the critic's decoder under the policy's attention; an adapter that is found becomes part of the weights."""
    if spec.from_ == "scratch":
        raise RecipeError(errors.no_model("scratch (as a critic)"))
    origin = policy.origin if spec.from_ is None else origin_of(spec.from_, context)
    described = policy_specs.CausalLm(dtype=spec.dtype, scratch=policy.spec.scratch)
    model = Decoder(described, context, merged(origin, context))
    mine, its = policy.tokenizer.get_vocab(), model.tokenizer.get_vocab()
    if mine != its or model.vocabulary < policy.vocabulary:
        raise RecipeError(errors.vocabulary_mismatch(f"critic `{spec.from_}`", len(mine), model.vocabulary))
    model.set_attention(policy.attention.unbound_copy())
    return model

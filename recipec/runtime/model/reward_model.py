"""Reward models: a decoder with a linear head of one output, in the form of the library's sequence classifiers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recipec.diagnostics.errors import model as model_errors, objective as errors, trust
from recipec.diagnostics.model import RecipeError
from recipec.runtime.model import weights
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.rng import rng_for

HEAD = "score"
"""Name of the head in the library's classifiers on decoders."""


class RewardModel(CausalLm):
    """A decoder that gives one score to each row; see :class:`recipec.spec.policy.CausalLm`.

    Loaded from a language model, its head is new; from a reward model, the head is that of the model.  The score is
    read at the last token that is not padding, as ``AutoModelForSequenceClassification`` does, so that a saved model
    gives the same scores there.  With an adapter, the head is trained too; it is saved with the weights under it.
    """

    is_reward_model = True
    next_to_adapter = HEAD

    def _new(self) -> Any:
        return self._with_head(super()._new())

    def _model_of(self, folder: Path, dtype: torch.dtype) -> Any:
        if not is_reward_model(folder):
            return self._with_head(super()._model_of(folder, dtype))
        return load_reward_model(folder, dtype, self.spec.dropout, self.context.say)

    def _with_head(self, causal: nn.Module) -> Any:
        seed = int(rng_for(self.context.seed, self.context.stage, HEAD).integers(1 << 63))
        classifier = with_scalar_head(causal, self._named(), seed)
        classifier.config.pad_token_id = self.pad_id
        return classifier

    @torch.no_grad()
    def _head_separable(self) -> bool:
        """Return true, if no token changes the hidden states of earlier ones.

        Raises:
            RecipeError: RC602, the model is not a causal decoder.
        """
        self.model.eval()
        decoder = getattr(self.model, self.model.base_model_prefix)
        tokens = torch.arange(4, device=self.device)[None] % self.vocabulary
        hidden = decoder(input_ids=tokens, use_cache=False).last_hidden_state
        tokens[0, -1] = 0
        other = decoder(input_ids=tokens, use_cache=False).last_hidden_state
        if not torch.allclose(hidden[:, :-1], other[:, :-1], rtol=1e-3, atol=1e-3):
            raise RecipeError(trust.unknown_architecture(self._named(), str(self.model.config.model_type)))
        return True

    def __call__(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Score rows: the policy's node in the graph of an `rm` stage."""
        return {"model_score_R": self.scores(tokens_RT, attend_RT)}

    def sequence_scores(self, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor, **images: Any) -> Tensor:  # noqa: ARG002
        """Return the score of each row, float64."""
        return self.scores(tokens_RT, attend_RT).double()

    def scores(self, tokens_RT: Tensor, attend_RT: Tensor) -> Tensor:
        """Return the score of each row, float32: the head's value at its last token that is not padding.

        Raises:
            RecipeError: RC736, a row is longer than the model's positions.
        """
        longest = int(attend_RT.sum(-1).max())
        if longest > self.max_positions:
            raise RecipeError(model_errors.beyond_positions(longest, self.max_positions))
        tokens_RT, attend_RT = tokens_RT.to(self.device), attend_RT.to(self.device)
        # attentions give the state before a scored token: here, before one that would follow the last
        tokens_RT, attend_RT = (functional.pad(column, (0, 1)) for column in (tokens_RT, attend_RT))
        place_T = torch.arange(tokens_RT.shape[1], device=self.device)
        last_R = (place_T * (attend_RT & (tokens_RT != self.model.config.pad_token_id))).argmax(-1)
        scored_RT = place_T == last_R[:, None] + 1
        return self.layout.inside(lambda: self._values(tokens_RT, attend_RT | scored_RT, scored_RT))

    def _values(self, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor) -> Tensor:
        """Return the head's values before the scored positions, in row-major order."""
        with self._drawn():
            states = self.attention.target_hidden_states(self, tokens_RT, attend_RT, scored_RT)
        head = getattr(self.model, HEAD)
        bias = None if head.bias is None else head.bias.float()
        value_K = functional.linear(states.hidden_UH.float(), head.weight.float(), bias)[states.predictor_K, 0]
        return value_K if states.gather_M is None else value_K[states.gather_M]


def is_reward_model(folder: Path) -> bool:
    """Whether the description of a model says that it classifies sequences."""
    named = weights.read_json(folder / "config.json").get("architectures")
    return isinstance(named, list) and any("ForSequenceClassification" in str(name) for name in named)


def load_reward_model(folder: Path, dtype: torch.dtype, dropout: float, say: Any) -> nn.Module:
    """Load a reward model, which ``inspect_folder`` has looked at.

    Raises:
        RecipeError: RC952, it has another number of outputs than one; what `weights.load_model` raises.
    """
    described = weights.read_json(folder / "config.json")
    labels = described.get("id2label")
    outputs = len(labels) if isinstance(labels, dict) else described.get("num_labels", 2)
    if outputs != 1:
        raise RecipeError(errors.not_a_reward_model(str(folder), f"it has {outputs} outputs"))
    model = weights.load_model(folder, dtype, dropout, say, scalar=True)
    if not isinstance(getattr(model, HEAD, None), nn.Linear):
        raise RecipeError(errors.no_scalar_head(str(folder), str(described.get("model_type"))))
    return model


def with_scalar_head(causal: Any, name: str, seed: int) -> Any:
    """Put a new head on the decoder of a language model, in place of the one that predicts tokens.

    Its weights are normal with the model's ``initializer_range``, drawn from ``seed``.

    Raises:
        RecipeError: RC951, there is no such model of this family.
    """
    config = causal.config
    family = weights.scalar_class(config)
    if family is None or config is not config.get_text_config():
        raise RecipeError(errors.no_scalar_head(name, str(config.model_type)))
    config.num_labels = 1
    with torch.device("meta"):
        classifier = family(config)
    head = getattr(classifier, HEAD, None)
    if not isinstance(head, nn.Linear) or classifier.base_model_prefix != causal.base_model_prefix:
        raise RecipeError(errors.no_scalar_head(name, str(config.model_type)))
    setattr(classifier, classifier.base_model_prefix, getattr(causal, causal.base_model_prefix))
    weight = torch.empty(head.weight.shape)
    weight.normal_(
        0.0, float(getattr(config, "initializer_range", 0.02)), generator=torch.Generator().manual_seed(seed)
    )
    new = nn.Linear(head.in_features, 1, bias=head.bias is not None, dtype=causal.dtype)
    with torch.no_grad():
        new.weight.copy_(weight)
        if new.bias is not None:
            new.bias.zero_()
    setattr(classifier, HEAD, new)
    classifier.generation_config = causal.generation_config
    return classifier

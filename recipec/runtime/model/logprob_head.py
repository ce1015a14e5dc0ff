"""Log-probabilities and entropies from hidden states, a bounded number of logits rows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

from recipec.diagnostics.errors import model as model_errors, objective as errors
from recipec.diagnostics.model import RecipeError

LOGITS = 1 << 25
"""Most logits alive at once (128 MiB in float32): a chunk has ``LOGITS // vocabulary`` rows."""


@dataclass(frozen=True, slots=True)
class TargetHiddenStates:
    """Hidden states before the scored tokens, each unique one once, and the (state, target) pairs to score.

    Example: two rows that share their prompt have one predictor of two different first answer tokens.
    """

    hidden_UH: Tensor
    """Hidden states that predict something."""
    predictor_K: Tensor
    """Which of them predicts pair k; never decreasing."""
    target_K: Tensor
    """Token id that pair k predicts."""
    gather_M: Tensor | None = None
    """Which pair scored position m is, in row-major order; none where there is one pair a position."""
    whole: Callable[[Tensor], Tensor] | None = None
    """Adds the values of other ranks, where the pairs are a share of all scored positions."""
    scored_before: tuple[Callable[[Score], tuple[Tensor, Tensor]], ...] = ()
    """Return the scores of the last pairs, each of one state, which several passes share and one of them computes."""


Score = Callable[[TargetHiddenStates], tuple[Tensor, Tensor]]
"""Returns log-probabilities and spreads of all pairs."""
SpreadOf = Literal["", "entropy", "collision"]
"""What is computed of a distribution next to a log-probability: nothing (0), its entropy, or the sum of its squared
probabilities, which has no gradient."""


def _wide(logits: Tensor) -> Tensor:
    """Return logits in float32, or in float64 where the model is: what is proved in float64 must not be rounded."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class _Score(torch.autograd.Function):
    """Log-probability of the targets and entropy of each row, with a backward that makes one temporary."""

    @staticmethod
    def forward(
        ctx: Any, logits_UV: Tensor, predictor_K: Tensor, target_K: Tensor, temperature: float, spread_of: SpreadOf
    ) -> tuple[Tensor, Tensor]:
        scaled = _wide(logits_UV)
        if temperature != 1.0:
            scaled = scaled / temperature
        total = torch.logsumexp(scaled, -1)
        logprob = scaled[predictor_K, target_K] - total[predictor_K]
        if spread_of == "entropy":
            # chunks of rows are small, so probabilities and logits fit in memory together
            log_p = scaled - total[:, None]
            spread = -torch.einsum("uv,uv->u", log_p.exp(), log_p)
        elif spread_of == "collision":
            spread = (torch.logsumexp(2 * scaled, -1) - 2 * total).exp()
            ctx.mark_non_differentiable(spread)
        else:
            spread = torch.zeros_like(total)
        ctx.save_for_backward(logits_UV, predictor_K, target_K, total, spread)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logprob, spread

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, None, None, None, None]:
        """For scaled logits z, p = softmax z: d logp(t) = 1[t] - p, d H = -p (log p + H)."""
        by_logprob, by_entropy = grads
        logits, predictor, target, total, entropy = ctx.saved_tensors
        if by_logprob is None and by_entropy is None:
            return None, None, None, None, None
        log_p = _wide(logits) / ctx.temperature - total[:, None]
        p = log_p.exp()
        share = torch.zeros_like(total)
        if by_logprob is not None:
            share.index_add_(0, predictor, by_logprob)
        if by_entropy is not None:
            grad = log_p.add_(entropy[:, None]).mul_(-by_entropy[:, None]).sub_(share[:, None]).mul_(p)
        else:
            grad = p.mul_(-share[:, None])
        if by_logprob is not None:
            grad.index_put_((predictor, target), by_logprob, accumulate=True)
        return grad.div_(ctx.temperature).to(logits.dtype), None, None, None, None


def score(
    head: Callable[[Tensor], Tensor],
    states: TargetHiddenStates,
    vocabulary: int,
    temperature: float,
    *,
    spread_of: SpreadOf,
) -> tuple[Tensor, Tensor]:
    """Return log-probability and spread of each scored position, in row-major order: float32, or as wide as the model.

    No more than ``LOGITS`` logits are alive at once: chunks of hidden states go through ``head``, and the backward
    computes their logits again where there is more than one.
    """
    rows = max(1, LOGITS // vocabulary)
    logprobs, entropies = [], []

    def chunk(hidden: Tensor, predictor: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        logprob, entropy_U = _Score.apply(head(hidden), predictor, target, temperature, spread_of)  # type: ignore[no-untyped-call]
        return logprob, entropy_U[predictor]

    again = partial(score, head, vocabulary=vocabulary, temperature=temperature, spread_of=spread_of)
    before = [scored(again) for scored in states.scored_before]
    own = len(states.hidden_UH) - sum(len(logprob) for logprob, _ in before)
    for start in range(0, own, rows):
        hidden = states.hidden_UH[start : min(start + rows, own)]
        ends = torch.searchsorted(
            states.predictor_K, torch.tensor([start, start + len(hidden)], device=states.predictor_K.device)
        )
        first, last = ends.tolist()
        columns = (hidden, states.predictor_K[first:last] - start, states.target_K[first:last])
        if torch.is_grad_enabled() and own > rows:  # computing a sole chunk again saves no memory
            logprob, entropy_U = checkpoint(chunk, *columns, use_reentrant=False, preserve_rng_state=False)
        else:
            logprob, entropy_U = chunk(*columns)
        logprobs.append(logprob)
        entropies.append(entropy_U)
    # a slice and not a new tensor: ranks that gather weights in each backward pass need one where nothing is scored too
    empty = _wide(states.hidden_UH.reshape(-1)[:0])
    logprobs += [logprob for logprob, _ in before]
    entropies += [entropy_U for _, entropy_U in before]
    logprob, entropy_U = torch.cat(logprobs or [empty]), torch.cat(entropies or [empty])
    if states.gather_M is not None:
        logprob, entropy_U = logprob[states.gather_M], entropy_U[states.gather_M]
    if states.whole is not None:
        logprob, entropy_U = states.whole(logprob), states.whole(entropy_U)
    return logprob, entropy_U


def scored(policy: Any, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows on the device of a policy, and which of their tokens are predicted.

    Raises:
        RecipeError: RC736, a row is longer than the model's positions.
    """
    longest = int(attend_RT.sum(-1).max())
    if longest > policy.max_positions:
        raise RecipeError(model_errors.beyond_positions(longest, policy.max_positions))
    tokens_RT, attend_RT = tokens_RT.to(policy.device), attend_RT.to(policy.device)
    scored_RT = trained_RT.to(policy.device) & attend_RT
    scored_RT[:, 0] = False
    return tokens_RT, attend_RT, scored_RT


class _Float32(nn.Linear):
    """A linear layer that multiplies in float32, whatever the type of its weight is."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the parent's name
        """Multiply rows by the weight, both in float32."""
        bias = None if self.bias is None else self.bias.float()
        return functional.linear(input.float(), self.weight.float(), bias)


def compute_in_float32(model: Any, name: str) -> None:
    """Let the output layer of a model multiply in float32; its weight keeps its type and its name.

    Raises:
        RecipeError: RC890, the output layer is not linear; ``name`` is the name of the model.

    References:
        Khatri et al., `ScaleRL <https://arxiv.org/abs/2510.13786>`_, 2025; MiniMax-M1, 2025, section 3.2.
    """
    head = model.get_output_embeddings()
    head = getattr(head, "base_layer", head)  # an adapter on it is float32 itself
    if type(head) is not nn.Linear:
        raise RecipeError(errors.no_linear_head(name, type(head).__name__))
    head.__class__ = _Float32


class _Found(BaseModelOutputWithPastAndCrossAttentions):  # type: ignore[misc]
    """Hidden states; whatever else a family passes on from its decoder is absent."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class _Given(nn.Module):
    """Stands where the decoder is and returns hidden states that are known already."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    @property
    def decoder(self) -> _Given:
        """Some families call the decoder inside the decoder."""
        return self

    def forward(self, *_: Any, **__: Any) -> _Found:
        return _Found(last_hidden_state=self.hidden)


def own_head(model: nn.Module, hidden_UH: Tensor) -> Tensor:
    """Compute logits by the model's own forward, its decoder replaced by the hidden states.

    Scaling and soft-capping of final logits come out as the family defines them, whatever they are.
    """
    name = str(model.base_model_prefix)
    decoder = model._modules[name]  # noqa: SLF001 - setattr would register the stand-in as a parameterised child
    model._modules[name] = _Given(hidden_UH[None])  # noqa: SLF001
    try:
        logits: Tensor = model.forward(inputs_embeds=hidden_UH[None], use_cache=False, return_dict=True).logits
    finally:
        model._modules[name] = decoder  # noqa: SLF001
    return logits[0]


def placed(value_M: Tensor, scored_RT: Tensor) -> Tensor:
    """Return values at the positions that are scored, 0 elsewhere.

    >>> placed(torch.tensor([5.0]), torch.tensor([[False, True]]))
    tensor([[0., 5.]])
    """
    return value_M.new_zeros(scored_RT.shape).masked_scatter(scored_RT, value_M)

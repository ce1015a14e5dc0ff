"""On-policy distillation: divergences of whole distributions, and the credit of tokens under a teacher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from recipec.runtime.model import logprob_head
from recipec.runtime.model.causal_lm import CausalLm
from recipec.runtime.model.logprob_head import LOGITS, TargetHiddenStates

ALIVE = 4
"""Matrices of the size of a chunk's logits that exist at once: of both models, their mixture, and a gradient."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A second model with which distributions of the policy are compared; see :class:`recipec.spec.loss.Gkd`."""

    model: CausalLm
    beta: float
    temperature: float | None = None
    top_k: int | None = None

    def compared(self, policy: CausalLm, tokens_RT: Tensor, attend_RT: Tensor, trained_RT: Tensor) -> dict[str, Tensor]:
        """Return ``divergence_RT`` and ``entropy_RT`` of the policy: float32, in nats, 0 where not trained."""
        tokens_RT, attend_RT, scored_RT = logprob_head.scored(policy, tokens_RT, attend_RT, trained_RT)

        def states(model: CausalLm) -> TargetHiddenStates:
            return model.attention.target_hidden_states(model, tokens_RT, attend_RT, scored_RT)

        with torch.no_grad():
            theirs = self.model.layout.inside(lambda: states(self.model))
        divergence_M, entropy_M = policy.layout.inside(lambda: self._of_states(policy, states(policy), theirs))
        return {
            "divergence_RT": logprob_head.placed(divergence_M, scored_RT),
            "entropy_RT": logprob_head.placed(entropy_M, scored_RT),
        }

    def _of_states(
        self, policy: CausalLm, ours: TargetHiddenStates, theirs: TargetHiddenStates
    ) -> tuple[Tensor, Tensor]:
        """Compare the distributions before each scored position, every pair of hidden states once."""
        pair_M2 = torch.stack([_state_of(ours), _state_of(theirs)], -1)
        pair_U2, place_M = torch.unique(pair_M2, dim=0, return_inverse=True)
        rows = max(1, LOGITS // (ALIVE * policy.vocabulary))
        temperature = self.temperature or policy.temperature
        chunks: list[tuple[Tensor, Tensor]] = []

        def chunk(ours_UH: Tensor, theirs_UH: Tensor) -> tuple[Tensor, Tensor]:
            logits_UV = policy.head(ours_UH)
            with torch.no_grad():
                their_UV = self.model.head(theirs_UH)[:, : logits_UV.shape[-1]]
            return divergences(logits_UV / temperature, their_UV / temperature, self.beta, self.top_k)

        for start in range(0, len(pair_U2), rows):
            mine, other = pair_U2[start : start + rows].unbind(-1)
            hidden_states = ours.hidden_UH[mine], theirs.hidden_UH[other]
            if torch.is_grad_enabled() and len(pair_U2) > rows:
                chunks.append(checkpoint(chunk, *hidden_states, use_reentrant=False, preserve_rng_state=False))
            else:
                chunks.append(chunk(*hidden_states))
        empty = ours.hidden_UH.reshape(-1)[:0].float()
        columns = (torch.cat(column) for column in zip(*chunks, strict=True)) if chunks else (empty, empty)
        divergence_M, entropy_M = (column[place_M] for column in columns)
        return (divergence_M, entropy_M) if ours.whole is None else (ours.whole(divergence_M), ours.whole(entropy_M))


def _state_of(states: TargetHiddenStates) -> Tensor:
    """Return the hidden state before each scored position, in row-major order."""
    return states.predictor_K if states.gather_M is None else states.predictor_K[states.gather_M]


def divergences(logits_UV: Tensor, teacher_UV: Tensor, beta: float, top_k: int | None = None) -> tuple[Tensor, Tensor]:
    """Return divergence from the teacher and entropy of each distribution, in nats.

    >>> even, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -1e9]])
    >>> [round(float(divergences(even, sure, beta)[0]), 3) for beta in (0.0, 0.5)]
    [0.693, 0.216]
    """
    ours = functional.log_softmax(logits_UV, -1, dtype=torch.promote_types(logits_UV.dtype, torch.float32))
    theirs = functional.log_softmax(teacher_UV, -1, dtype=ours.dtype)
    entropy_U = -(ours.detach().exp() * ours.detach()).sum(-1)
    if top_k is not None:
        top = theirs.topk(min(top_k, theirs.shape[-1]), -1)
        ours, theirs = ours.gather(-1, top.indices), top.values
    if beta == 0:
        found_U = _kl(theirs, ours)
        return (found_U if top_k is None else found_U.clamp(min=0)), entropy_U
    if beta == 1:
        return _kl(ours, theirs), entropy_U
    share = torch.tensor(beta, dtype=ours.dtype, device=ours.device)
    mixed = torch.logaddexp(ours + torch.log1p(-share), theirs + share.log())
    return beta * _kl(theirs, mixed) + (1 - beta) * _kl(ours, mixed), entropy_U


def _kl(one_UV: Tensor, other_UV: Tensor) -> Tensor:
    """Return KL(one | other) of log-probabilities; what has probability 0 adds nothing."""
    return functional.kl_div(other_UV, one_UV, reduction="none", log_target=True).sum(-1)


def gkd(divergence_RT: Tensor, trained_RT: Tensor, weight_RT: Tensor, *, clamp: float | None) -> dict[str, Any]:
    """Sum the divergences by weight; see :class:`recipec.spec.loss.Gkd`.

    >>> column = torch.tensor([[0.0, 2.0, 4.0]])
    >>> float(gkd(column, column > 0, torch.full((1, 3), 0.5), clamp=3.0)["loss"])
    2.5
    """
    held_RT = divergence_RT if clamp is None else divergence_RT.clamp(max=clamp)
    share_RT = torch.where(trained_RT, weight_RT, 0.0)
    loss = (torch.where(trained_RT, held_RT, 0.0) * share_RT).sum()
    return {"loss": loss, "metric/divergence": (divergence_RT.detach() * share_RT).sum()}


def reverse_kl(
    old_logprob_RT: Tensor,
    ref_logprob_RT: Tensor,
    trained_RT: Tensor,
    *,
    value: str,  # noqa: ARG001 - no reward is compared
    weight: float,
    clamp: float | None,
) -> dict[str, Tensor]:
    """Credit each token by how much likelier the teacher finds it; see :class:`recipec.spec.advantage.ReverseKl`.

    >>> old, teacher = torch.tensor([[0.0, -1.0, -2.0]]), torch.tensor([[0.0, -3.0, -1.5]])
    >>> reverse_kl(old, teacher, old < 0, value="", weight=2.0, clamp=1.5)["advantage_RT"].tolist()
    [[0.0, -3.0, 1.0]]
    """
    apart_RT = torch.where(trained_RT, ref_logprob_RT.double() - old_logprob_RT.double(), 0.0)
    estimate = -apart_RT.sum() / trained_RT.sum().clamp(min=1)
    if clamp is not None:
        apart_RT = apart_RT.clamp(-clamp, clamp)
    return {"advantage_RT": (weight * apart_RT).float(), "metric/teacher/reverse_kl": estimate}

"""Packed or padded sequences with their tokens spread over a team of ranks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from recipec.component import Component
from recipec.runtime.attention.packed import PackedAttention, first_columns, without_mask
from recipec.runtime.distributed.team import Team
from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Policy

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext


class SpreadSequences(PackedAttention):
    """Sequences one after the other, each rank of a team with an equal share of the tokens.

    Attention is that of :class:`PackedAttention`, with some of the heads on each rank; rows that are ``padded`` keep
    their padding.  Each rank computes the head on its own tokens.
    """

    def __init__(self, spec: Component, context: StageContext, team: Team, *, padded: bool) -> None:
        """Spread the tokens of each pass over ``team``."""
        super().__init__(spec, context)
        self.team, self.padded = team, padded

    def unbound_copy(self) -> SpreadSequences:
        """Return an unbound one, for a second model."""
        return SpreadSequences(self.spec, self.context, self.team, padded=self.padded)

    def bind(self, policy: Policy) -> None:
        """Bind the model, after the test of packed attention on whole sequences.

        Raises:
            RecipeError: RC830, it fails the test.
        """
        PackedAttention(self.spec, self.context).bind(policy)

    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return the hidden states before each scored position of this rank's tokens."""
        device, team = tokens_RT.device, self.team
        lengths = [max(0, n - 1) for n in attend_RT.sum(-1).tolist()]
        if self.padded:
            lengths = [max(lengths)] * len(lengths)
        assert policy.position_ids(tokens_RT) is None, "this attention is of text alone"
        ids_N = tokens_RT[first_columns(lengths, tokens_RT)]
        width = -(-len(ids_N) // team.size)
        row_lengths = tuple(n for n in (*lengths, width * team.size - len(ids_N)) if n)  # the last one fills up
        position_N = torch.cat([torch.arange(n, device=device) for n in row_lengths])
        first, last = team.place * width, (team.place + 1) * width
        ids_N = pad(ids_N, (0, len(position_N) - len(ids_N)))
        with without_mask():
            hidden_NH = policy.hidden_states(
                input_ids=ids_N[None, first:last],
                position_ids=position_N[None, first:last],
                row_lengths=row_lengths,
                team=team,
            )[0]
        row, column = scored_RT.nonzero(as_tuple=True)
        starts = torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)
        predictor_M = starts[row] + column - 1
        own_K = ((predictor_M >= first) & (predictor_M < last)).nonzero()[:, 0]
        return TargetHiddenStates(
            hidden_NH[predictor_M[own_K] - first],
            torch.arange(len(own_K), device=device),
            tokens_RT[row, column][own_K],
            whole=partial(team.whole, place_K=own_K, count=len(row), through=hidden_NH),
        )

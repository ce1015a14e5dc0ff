"""Packed or padded sequences, with their tokens divided among the ranks of a sequence-parallel group."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from recipec.component import Component
from recipec.runtime.attention.packed import PackedAttention, first_columns, without_mask
from recipec.runtime.distributed.sequence_parallel import SequenceParallelGroup
from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Policy

if TYPE_CHECKING:
    from recipec.runtime.context import StageContext


class SequenceParallelAttention(PackedAttention):
    """Sequences one after the other; each rank of a sequence-parallel group has an equal share of the tokens.

    Attention is that of :class:`PackedAttention`, with some of the heads on each rank; rows that are ``padded`` keep
    their padding.  Each rank computes the head on its own tokens.
    """

    def __init__(
        self, spec: Component, context: StageContext, sp_group: SequenceParallelGroup, *, padded: bool
    ) -> None:
        """Divide the tokens of each pass among the ranks of ``sp_group``."""
        super().__init__(spec, context)
        self.sp_group, self.padded = sp_group, padded

    def unbound_copy(self) -> SequenceParallelAttention:
        """Return an unbound one, for a second model."""
        return SequenceParallelAttention(self.spec, self.context, self.sp_group, padded=self.padded)

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
        device, sp_group = tokens_RT.device, self.sp_group
        lengths = [max(0, n - 1) for n in attend_RT.sum(-1).tolist()]
        if self.padded:
            lengths = [max(lengths)] * len(lengths)
        assert policy.position_ids(tokens_RT) is None, "this attention is of text alone"
        ids_N = tokens_RT[first_columns(lengths, tokens_RT)]
        width = -(-len(ids_N) // sp_group.size)
        row_lengths = tuple(n for n in (*lengths, width * sp_group.size - len(ids_N)) if n)  # the last one fills up
        position_N = torch.cat([torch.arange(n, device=device) for n in row_lengths])
        first, last = sp_group.rank * width, (sp_group.rank + 1) * width
        ids_N = pad(ids_N, (0, len(position_N) - len(ids_N)))
        with without_mask():
            hidden_NH = policy.hidden_states(
                input_ids=ids_N[None, first:last],
                position_ids=position_N[None, first:last],
                row_lengths=row_lengths,
                sp_group=sp_group,
            )[0]
        row, column = scored_RT.nonzero(as_tuple=True)
        starts = torch.tensor([0, *lengths[:-1]], device=device).cumsum(0)
        predictor_M = starts[row] + column - 1
        own_K = ((predictor_M >= first) & (predictor_M < last)).nonzero()[:, 0]
        return TargetHiddenStates(
            hidden_NH[predictor_M[own_K] - first],
            torch.arange(len(own_K), device=device),
            tokens_RT[row, column][own_K],
            whole=partial(sp_group.gather, index_K=own_K, count=len(row), through=hidden_NH),
        )

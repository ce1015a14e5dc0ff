"""Sequences padded to one width."""

from __future__ import annotations

import torch
from torch import Tensor

from recipec.runtime.model.logprob_head import TargetHiddenStates
from recipec.runtime.protocols import Attention, Policy


class DenseAttention(Attention):
    """A right-padded batch; see :class:`recipec.spec.attention.Dense`."""

    def target_hidden_states(
        self, policy: Policy, tokens_RT: Tensor, attend_RT: Tensor, scored_RT: Tensor
    ) -> TargetHiddenStates:
        """Return the hidden states before each scored position.

        Padding is on the right, so no valid token of a causal decoder attends to it, and no mask is needed.
        """
        width = int(attend_RT.sum(-1).max())
        # the last token predicts no scored token
        tokens = tokens_RT[:, : max(1, width - 1)]
        positions = policy.position_ids(tokens)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
        hidden_RTH = policy.hidden_states(input_ids=tokens, position_ids=positions)
        row, column = scored_RT.nonzero(as_tuple=True)
        return TargetHiddenStates(
            hidden_RTH[row, column - 1], torch.arange(len(row), device=row.device), tokens_RT[row, column]
        )

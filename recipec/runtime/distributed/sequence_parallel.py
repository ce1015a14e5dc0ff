"""Ranks that compute one forward pass together, each a share of its tokens: sequence parallelism by Ulysses.

Between layers each rank has some tokens with all heads; in attention it has all tokens with some heads.  One all-to-all
changes one layout into the other.

References:
    Jacobs et al., `DeepSpeed Ulysses <https://arxiv.org/abs/2309.14509>`_, 2023.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from recipec.host.ranks import Ranks

_HEADS, _TOKENS = 1, 2  # axes of queries, keys and values


class SequenceParallelGroup:
    """Consecutive ranks that share the tokens of each pass.

    Example: ``SequenceParallelGroup(ranks, 2).to_heads(query)``.
    """

    def __init__(self, ranks: Ranks, size: int) -> None:
        """Form the groups of ``size`` ranks; a collective call of all ranks."""
        self.size, self.rank = size, ranks.rank % size
        groups = [dist.new_group(list(range(first, first + size))) for first in range(0, ranks.size, size)]
        self.group: Any = groups[ranks.rank // size]

    def to_heads(self, x: Tensor) -> Tensor:
        """Return all tokens of this rank's heads.

        From ``[1, heads, tokens / n, width]`` to ``[1, heads / n, tokens, width]``.
        Where there are fewer key-value heads than ranks, several ranks get the same one.
        """
        if x.shape[_HEADS] % self.size:
            x = x.repeat_interleave(self.size // x.shape[_HEADS], _HEADS)
        heads: Tensor = _AllToAll.apply(x, self, _HEADS, _TOKENS)  # type: ignore[no-untyped-call]
        return heads

    def to_tokens(self, x: Tensor) -> Tensor:
        """Return all heads of this rank's tokens.

        From ``[1, tokens, heads / n, width]`` to ``[1, tokens / n, heads, width]``.
        """
        tokens: Tensor = _AllToAll.apply(x, self, 1, 2)  # type: ignore[no-untyped-call]
        return tokens

    def all_to_all(self, x: Tensor, split_dim: int, concat_dim: int) -> Tensor:
        """Send part i of ``split_dim`` to rank i of the group; concatenate the received parts along ``concat_dim``."""
        sent = torch.stack(x.chunk(self.size, split_dim)).contiguous()
        received = torch.empty_like(sent)
        dist.all_to_all_single(received, sent, group=self.group)
        return torch.cat(received.unbind(0), concat_dim)

    def gather(self, value_K: Tensor, index_K: Tensor, count: int, through: Tensor) -> Tensor:
        """Return all ``count`` values of the group [M], of which this rank has those at ``index_K``.

        Every rank computes the same loss from them, so that its gradient goes back to this rank's own values only, and
        to ``through``, which takes part in the backward pass also where this rank has no value.
        """
        tied = value_K + 0.0 * through.float().sum()
        value_M: Tensor = _Gather.apply(tied, index_K, count, self)  # type: ignore[no-untyped-call]
        return value_M


class _AllToAll(torch.autograd.Function):
    """An all-to-all, with the opposite one for gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: SequenceParallelGroup, split_dim: int, concat_dim: int) -> Tensor:
        ctx.group, ctx.axes = group, (concat_dim, split_dim)
        return group.all_to_all(x, split_dim, concat_dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.group.all_to_all(grads[0], *ctx.axes), None, None, None


class _Gather(torch.autograd.Function):
    """Values of all ranks of a group in one tensor; gradients of a rank's own values."""

    @staticmethod
    def forward(ctx: Any, value_K: Tensor, index_K: Tensor, count: int, group: SequenceParallelGroup) -> Tensor:
        ctx.save_for_backward(index_K)
        value_M = value_K.new_zeros(count)
        value_M[index_K] = value_K
        dist.all_reduce(value_M, group=group.group)  # zero elsewhere: the sum is exact
        return value_M

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return grads[0][ctx.saved_tensors[0]], None, None, None

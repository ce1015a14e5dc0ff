"""Ranks that compute one forward pass together, each a share of its tokens: sequence parallelism by Ulysses.

Between layers each rank has some tokens with all heads; in attention it has all tokens with some heads.  Both are
exchanged by one all-to-all.

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


class Team:
    """Consecutive ranks that share the tokens of each pass.

    Example: ``Team(ranks, 2).to_heads(query)``.
    """

    def __init__(self, ranks: Ranks, size: int) -> None:
        """Form the teams of ``size`` ranks; every rank does so at the same moment."""
        self.size, self.place = size, ranks.rank % size
        groups = [dist.new_group(list(range(first, first + size))) for first in range(0, ranks.size, size)]
        self.group: Any = groups[ranks.rank // size]

    def to_heads(self, x: Tensor) -> Tensor:
        """Return all tokens of this rank's heads.

        From ``[1, heads, tokens / n, width]`` to ``[1, heads / n, tokens, width]``.
        Where there are fewer key-value heads than ranks, several ranks get the same one.
        """
        if x.shape[_HEADS] % self.size:
            x = x.repeat_interleave(self.size // x.shape[_HEADS], _HEADS)
        found: Tensor = _Exchange.apply(x, self, _HEADS, _TOKENS)  # type: ignore[no-untyped-call]
        return found

    def to_tokens(self, x: Tensor) -> Tensor:
        """Return all heads of this rank's tokens.

        From ``[1, tokens, heads / n, width]`` to ``[1, tokens / n, heads, width]``.
        """
        found: Tensor = _Exchange.apply(x, self, 1, 2)  # type: ignore[no-untyped-call]
        return found

    def exchanged(self, x: Tensor, parted: int, joined: int) -> Tensor:
        """Send part i of an axis to rank i of the team, and join what comes along another axis."""
        sent = torch.stack(x.chunk(self.size, parted)).contiguous()
        came = torch.empty_like(sent)
        dist.all_to_all_single(came, sent, group=self.group)
        return torch.cat(came.unbind(0), joined)

    def whole(self, value_K: Tensor, place_K: Tensor, count: int, through: Tensor) -> Tensor:
        """Return the values of all ``count`` places [M], of which this rank has those at ``place_K``.

        Every rank computes the same loss from them, so that its gradient goes back to this rank's own values only, and
        to ``through``, which takes part in the backward pass also where this rank has no value.
        """
        tied = value_K + 0.0 * through.float().sum()
        found: Tensor = _Whole.apply(tied, place_K, count, self)  # type: ignore[no-untyped-call]
        return found


class _Exchange(torch.autograd.Function):
    """An all-to-all, with the opposite one for gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Team, parted: int, joined: int) -> Tensor:
        ctx.team, ctx.axes = team, (joined, parted)
        return team.exchanged(x, parted, joined)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.team.exchanged(grads[0], *ctx.axes), None, None, None


class _Whole(torch.autograd.Function):
    """Values of all ranks of a team in one tensor; gradients of a rank's own values."""

    @staticmethod
    def forward(ctx: Any, value_K: Tensor, place_K: Tensor, count: int, team: Team) -> Tensor:
        ctx.save_for_backward(place_K)
        found = value_K.new_zeros(count)
        found[place_K] = value_K
        dist.all_reduce(found, group=team.group)  # zero elsewhere: the sum is exact
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return grads[0][ctx.saved_tensors[0]], None, None, None

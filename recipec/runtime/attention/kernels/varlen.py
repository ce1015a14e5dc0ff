"""Attention over a prefix tree by variable-length flash calls, for GPUs: one call per level of the tree.

All triangles are one causal call.  The subtrees of one level do not overlap, so their rectangles are one call: a group
of answers takes two calls per layer, a tree of depth d takes d + 1.  :mod:`.flash_merge` explains why merging is exact.
The kernels are those of :mod:`.flash`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from recipec.runtime.attention.kernels import flash
from recipec.runtime.attention.kernels.flash import Call
from recipec.runtime.attention.kernels.flash_merge import add_sink, merge, sink_gradient
from recipec.runtime.attention.kernels.reference import Layer
from recipec.runtime.attention.prefix_tree import PrefixTree

DTYPES = (torch.float16, torch.bfloat16)
"""Types that GPU kernels support."""
WIDEST = 256
"""The largest head that GPU kernels support."""


def calls(trie: PrefixTree, device: torch.device) -> tuple[Call, ...]:
    """Plan the calls of a prefix tree; tokens that are given have no queries."""
    own_N = np.arange(trie.size) if trie.given_N is None else np.flatnonzero(~trie.given_N)

    def own(begin: int, end: int) -> NDArray[Any]:
        return own_N[np.searchsorted(own_N, begin) : np.searchsorted(own_N, end)]

    triangles = [(queries, queries) for a, b, _ in trie.pieces if len(queries := own(a, b))]
    first = _call(triangles, device, causal=True)
    planned = [first if trie.given_N is not None else replace(first, queries=None, keys=None)]
    for level in trie.levels:
        rectangles = [(queries, np.arange(a, b)) for a, b, e in level if len(queries := own(b, e))]
        planned += [_call(rectangles, device, causal=False)] if rectangles else []
    return tuple(planned)


def _call(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]], device: torch.device, *, causal: bool) -> Call:
    """Plan one call, given the queries and keys of each sequence."""
    queries, keys = zip(*pairs, strict=True)

    def places(ranges: Sequence[NDArray[Any]]) -> Tensor:
        return torch.from_numpy(np.concatenate(ranges)).to(device)

    def ends(ranges: Sequence[NDArray[Any]]) -> Tensor:
        return torch.tensor([0, *np.cumsum([len(one) for one in ranges]).tolist()], dtype=torch.int32, device=device)

    most_queries, most_keys = (max(map(len, side)) for side in (queries, keys))
    return Call(places(queries), places(keys), ends(queries), ends(keys), most_queries, most_keys, causal)


@lru_cache(maxsize=16)
def causal_call(lengths: tuple[int, ...], device: torch.device) -> Call:
    """Return the call of sequences one after the other, each of which attends to its own tokens."""
    ends = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    return Call(None, None, ends, ends, max(lengths), max(lengths), causal=True)


def supports(query: Tensor, value: Tensor, layer: Layer, depth: int) -> bool:
    """Whether the kernels of a GPU compute a layer over sequences of up to ``depth`` tokens."""
    capped = layer.softcap is not None and not flash.caps(query.device)
    plain = not capped and not layer.restricts(depth)
    return plain and query.dtype in DTYPES and query.shape[-1] == value.shape[-1] <= WIDEST


def attend(query_NHD: Tensor, key_NGD: Tensor, value_NGD: Tensor, plan: tuple[Call, ...], scale: float,
           sink_H: Tensor | None = None, cap: float = 0.0) -> Tensor:  # fmt: skip
    """Return the attention output, shaped as the queries; ``cap`` is the soft-cap of the scores, 0 for none."""
    kernel = flash.kernel(query_NHD.device)
    out_NHD: Tensor = _Varlen.apply(query_NHD, key_NGD, value_NGD, sink_H, plan, scale, cap, kernel)  # type: ignore[no-untyped-call]
    return out_NHD


class _Varlen(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, plan: tuple[Call, ...], scale: float,
        cap: float, kernel: flash.Kernel,
    ) -> Tensor:  # fmt: skip
        exact = torch.promote_types(q.dtype, torch.float32)
        own, keys = plan[0].queries, plan[0].keys
        whole = (q, k, v) if own is None else (q[own], k[keys], v[keys])
        first, first_lse, one = kernel.forward(*whole, plan[0], scale, cap)
        kept = [one]
        out_HND, lse_HN = first.to(exact).transpose(0, 1).contiguous(), first_lse.to(exact).clone()
        if own is not None:
            out_HND = out_HND.new_zeros((q.shape[1], q.shape[0], v.shape[2])).index_copy_(1, own, out_HND)
            lse_HN = lse_HN.new_zeros((q.shape[1], q.shape[0])).index_copy_(1, own, lse_HN)
        for call in plan[1:]:
            assert call.queries is not None
            assert call.keys is not None
            more, more_lse, one = kernel.forward(q[call.queries], k[call.keys], v[call.keys], call, scale, cap)
            kept.append(one)
            rows, rows_lse = out_HND[:, call.queries], lse_HN[:, call.queries]
            merge(rows, rows_lse, more.to(exact).transpose(0, 1), more_lse.to(exact))
            out_HND[:, call.queries], lse_HN[:, call.queries] = rows, rows_lse
        if sink is not None:
            add_sink(out_HND, lse_HN, sink[:, None])
        out = out_HND.transpose(0, 1).to(q.dtype).contiguous()
        ctx.save_for_backward(q, k, v, out, lse_HN, sink)
        ctx.plan, ctx.scale, ctx.cap, ctx.kernel, ctx.kept = plan, scale, cap, kernel, kept
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, sink = ctx.saved_tensors
        (grad,) = grads
        grad = grad.contiguous()
        totals = [torch.zeros(t.shape, dtype=lse.dtype, device=t.device) for t in (q, k, v)]
        more = (ctx.scale, ctx.cap)
        for call, kept in zip(ctx.plan, ctx.kept, strict=True):
            if call.queries is None:
                partial = ctx.kernel.backward(grad, q, k, v, out, lse, call, *more, kept)
                for total, one in zip(totals, partial, strict=True):
                    total.add_(one)
                continue
            queries, keys = call.queries, call.keys
            partial = ctx.kernel.backward(
                grad[queries], q[queries], k[keys], v[keys], out[queries], lse[:, queries], call, *more, kept
            )
            for total, one, place in zip(totals, partial, (queries, keys, keys), strict=True):
                total.index_add_(0, place, one.to(total.dtype))  # the tokens of a level are distinct
        by_sink = None
        if sink is not None:
            by_sink = sink_gradient(grad.transpose(0, 1), out.transpose(0, 1), lse, sink[:, None])
        return totals[0].to(q.dtype), totals[1].to(k.dtype), totals[2].to(v.dtype), by_sink, None, None, None, None

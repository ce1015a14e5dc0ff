r"""Exact attention over a prefix tree by stock flash kernels, merged by their log-sum-exp.

Token i attends to j exactly if j <= i < exit(j).  In depth-first order, a node ``[a, b)`` with a subtree that ends at e
is the triangle of its own tokens and the full rectangle of queries ``[b, e)`` and keys ``[a, b)``: contiguous
slices without a mask.  Pieces of one row of scores are merged by their log-sum-exp (LSE):

    L = log(exp L1 + exp L2),   o = exp(L1 - L) o1 + exp(L2 - L) o2.

In the backward pass, each piece goes to its kernel with the *merged* output and LSE.  The kernel computes
p = exp(s - L) and dS = p (dP - D) with D = sum(dO o), and both are right exactly if L and o are those of the whole row
of scores; dQ, dK and dV are then sums over the pieces.  Ring Attention (Liu et al., https://arxiv.org/abs/2310.01889)
uses the same identity.
A sink is an additional key with value 0 and a score that is a parameter: it adds to L and scales o.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recipec.runtime.attention.kernels.tiling import Tiling

DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def works() -> bool:
    """Whether this build of torch has the kernels."""
    names = ("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention_for_cpu_backward")
    return all(hasattr(torch.ops.aten, name) for name in names)


def attend(query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, tiling: Tiling, scale: float,
           sink_H: Tensor | None = None) -> Tensor:  # fmt: skip
    """Return the attention output, shaped as the queries; H is a multiple of G, and consecutive heads share a key."""
    groups = key_GND.shape[0]
    query = _dense(query_HND.view(groups, -1, *query_HND.shape[1:]))
    out: Tensor = _Rectangles.apply(query, _dense(key_GND), _dense(value_GND), sink_H, tiling, scale)  # type: ignore[no-untyped-call]
    return out.flatten(0, 1)


def _dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


class _Rectangles(torch.autograd.Function):
    """Queries of ``[G, H/G, N, D]``; key groups are the kernel's batch, so keys are not copied for each head."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, tiling: Tiling, scale: float) -> Tensor:
        exact = torch.promote_types(q.dtype, torch.float32)
        new = torch.zeros if tiling.partial else torch.empty
        out, lse = (new(shape, dtype=exact, device=q.device) for shape in (q.shape, q.shape[:3]))
        expanded = _expanded(k, q), _expanded(v, q)
        for a, b, leaves in tiling.squares:
            own = (tensor.narrow(2, a, b - a) for tensor in (q, *expanded))
            partial = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001
                *own, 0.0, not leaves, attn_mask=_mask(leaves, exact), scale=scale
            )
            for whole, part in zip((out, lse), partial, strict=True):
                whole.narrow(2, a, b - a).copy_(part)
        for a, b, x, y in tiling.rectangles:
            keys = (tensor.narrow(2, a, b - a) for tensor in expanded)
            partial = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001
                q.narrow(2, x, y - x), *keys, 0.0, False, scale=scale
            )
            merge(out.narrow(2, x, y - x), lse.narrow(2, x, y - x), *partial)
        if sink is not None:
            add_sink(out, lse, sink.view(q.shape[0], -1, 1))
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse, sink)
        ctx.tiling, ctx.scale = tiling, scale
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, sink = ctx.saved_tensors
        (grad,) = grads
        grad, exact = _dense(grad), lse.dtype
        by_rows, by_keys = (grad, q, out, lse), (_expanded(k, q), _expanded(v, q))
        new = torch.zeros if ctx.tiling.partial else torch.empty
        dq, dk, dv = (new(q.shape, dtype=exact, device=q.device) for _ in range(3))
        calls = [(a, b, a, b, leaves) for a, b, leaves in ctx.tiling.squares]
        calls += [(x, y, a, b, None) for a, b, x, y in ctx.tiling.rectangles]
        for x, y, a, b, leaves in calls:
            d, at, o, log = (tensor.narrow(2, x, y - x) for tensor in by_rows)
            keys, values = (tensor.narrow(2, a, b - a) for tensor in by_keys)
            partial_grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(  # noqa: SLF001
                d, at, keys, values, o, log, 0.0, leaves == b"", attn_mask=_mask(leaves, exact), scale=ctx.scale
            )
            places = (dq.narrow(2, x, y - x), dk.narrow(2, a, b - a), dv.narrow(2, a, b - a))
            for whole, part in zip(places, partial_grads, strict=True):
                if leaves is None:
                    whole.add_(part)
                else:  # squares are first and cover a token once
                    whole.copy_(part)
        by_sink = None if sink is None else sink_gradient(grad, out, lse, sink.view(q.shape[0], -1, 1)).view_as(sink)
        return dq.to(q.dtype), dk.sum(1).to(k.dtype), dv.sum(1).to(v.dtype), by_sink, None, None


def _expanded(tensor: Tensor, q: Tensor) -> Tensor:
    """Expand keys to each of their heads, without a copy."""
    return tensor[:, None].expand(-1, q.shape[1], -1, -1)


@functools.lru_cache(maxsize=4096)  # at most 64 MiB in float32; equal subtrees share a mask
def _mask(leaves: bytes | None, dtype: torch.dtype) -> Tensor | None:
    """Return 0 for each visible pair and -inf for the others, or None if no mask is needed."""
    if not leaves:
        return None
    exits = torch.frombuffer(bytearray(leaves), dtype=torch.int32)
    place = torch.arange(len(exits))
    visible = (place <= place[:, None]) & (place[:, None] < exits)
    return torch.zeros(visible.shape, dtype=dtype).masked_fill_(~visible, -torch.inf)


def merge(out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor) -> None:
    """Merge a piece into the output and LSE of its queries, in place."""
    total = torch.logaddexp(lse, more_lse)
    out.mul_((lse - total).exp_().unsqueeze(-1)).addcmul_(more.to(out.dtype), (more_lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


def add_sink(out: Tensor, lse: Tensor, sink: Tensor) -> None:
    """Add a key with value 0 and score ``sink`` to each query, in place."""
    total = torch.logaddexp(lse, sink.to(lse.dtype))
    out.mul_((lse - total).exp_().unsqueeze(-1))
    lse.copy_(total)


def sink_gradient(grad: Tensor, out: Tensor, lse: Tensor, sink: Tensor) -> Tensor:
    """Return the gradient of the sinks: dP is 0, so dS = -p D, summed over the queries of each head."""
    share = (grad.to(lse.dtype) * out.to(lse.dtype)).sum(-1)
    return -((sink.to(lse.dtype) - lse).exp_() * share).sum(-1).to(sink.dtype)

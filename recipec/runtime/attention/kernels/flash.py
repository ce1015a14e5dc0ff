"""Variable-length flash kernels: those of the package flash-attn, of torch, and a substitute on a CPU.

Each computes one :class:`Call` over several sequences; the backward pass takes the *merged* output and LSE.
The package supports a soft-cap of the scores, torch's kernels do not.  The cap applies to each score before results are
merged, so merging by :mod:`.flash_merge` is exact for capped scores too.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor

_AGREE = 2e-2  # accepted difference of two bfloat16 kernels, relative to the largest number


@dataclass(frozen=True, slots=True)
class Call:
    """One variable-length call: the tokens of all its sequences, and the end of each sequence."""

    queries: Tensor | None
    """Tokens with a query; None for all in order."""
    keys: Tensor | None
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int
    causal: bool

    @property
    def ends(self) -> tuple[Tensor, Tensor, int, int]:
        """Ends of sequences and the longest lengths, as arguments of a kernel."""
        return self.query_ends, self.key_ends, self.most_queries, self.most_keys


class Kernel(Protocol):
    """Queries ``[N, H, D]``, keys and values ``[M, G, D]``; LSE ``[H, N]`` in float32."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, call: Call, scale: float, cap: float
    ) -> tuple[Tensor, Tensor, Any]:
        """Return output, LSE, and what the backward pass needs; there is no soft-cap if ``cap`` is 0."""

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, call: Call, scale: float,
        cap: float, kept: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Return the gradients of queries, keys and values."""


class Torch:
    """The kernels of torch."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, call: Call, scale: float, cap: float
    ) -> tuple[Tensor, Tensor, Any]:
        """Compute the call."""
        assert not cap, "these kernels have no soft-cap"
        out, lse, seed, unused, _ = torch.ops.aten._flash_attention_forward(  # noqa: SLF001
            q, k, v, *call.ends, 0.0, call.causal, False, scale=scale
        )
        return out, lse, (seed, unused)

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, call: Call, scale: float,
        cap: float, kept: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Compute the gradients of a call."""
        assert not cap, "these kernels have no soft-cap"
        grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(  # noqa: SLF001
            grad, q, k, v, out, lse.float().contiguous(), *call.ends, 0.0, call.causal, *kept, scale=scale
        )
        return grads


class Package:
    """The kernels of flash-attn 2 (the extra ``flash``), through the operators that it registers."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, call: Call, scale: float, cap: float
    ) -> tuple[Tensor, Tensor, Any]:
        """Compute the call."""
        out, lse, _, seed = torch.ops.flashattn._flash_attn_varlen_forward(  # noqa: SLF001
            q, k, v, *call.ends, 0.0, scale, call.causal, -1, -1, cap, None, False
        )
        return out, lse, seed

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, call: Call, scale: float,
        cap: float, kept: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Compute the gradients of a call."""
        by_q, by_k, by_v = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (q, k, v))
        lse = lse.float().contiguous()
        torch.ops.flashattn._flash_attn_varlen_backward(  # noqa: SLF001
            grad,
            q,
            k,
            v,
            out,
            lse,
            by_q,
            by_k,
            by_v,
            *call.ends,
            0.0,
            scale,
            call.causal,
            -1,
            -1,
            cap,
            None,
            False,
            kept,
        )
        return by_q, by_k, by_v


class Cpu:
    """The CPU kernel, one sequence at a time, so that everything but the GPU kernels is tested on a CPU."""

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, call: Call, scale: float, cap: float
    ) -> tuple[Tensor, Tensor, Any]:
        """Compute the call."""
        assert not cap, "this kernel has no soft-cap"
        outs, lses = [], []
        for rows, keys in _sequences(call):
            out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001
                _heads(q[rows]), _heads(k[keys], q), _heads(v[keys], q), 0.0, call.causal, scale=scale
            )
            outs.append(out[0].transpose(0, 1))
            lses.append(lse[0])
        return torch.cat(outs), torch.cat(lses, 1), None

    def backward(
        self, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, call: Call, scale: float,
        cap: float, kept: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Compute the gradients of a call."""
        assert not cap, "this kernel has no soft-cap"
        assert kept is None, "nothing is kept on a CPU"
        by_q, by_k, by_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for rows, keys in _sequences(call):
            grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(  # noqa: SLF001
                _heads(grad[rows]),
                _heads(q[rows]),
                _heads(k[keys], q),
                _heads(v[keys], q),
                _heads(out[rows]),
                lse[None, :, rows].contiguous(),
                0.0,
                call.causal,
                scale=scale,
            )
            by_q[rows] = grads[0][0].transpose(0, 1)
            by_k[keys] = grads[1][0].unflatten(0, (k.shape[1], -1)).sum(1).transpose(0, 1)
            by_v[keys] = grads[2][0].unflatten(0, (k.shape[1], -1)).sum(1).transpose(0, 1)
        return by_q, by_k, by_v


def kernel(device: torch.device) -> Kernel:
    """Return the kernels of a device; those of flash-attn if it is installed and agrees with torch."""
    if device.type != "cuda":
        return Cpu()
    return Package() if _package(device) else Torch()


def caps(device: torch.device) -> bool:
    """Whether the kernels of a device support a soft-cap."""
    return isinstance(kernel(device), Package)


@cache
def _package(device: torch.device) -> bool:
    try:
        importlib.import_module("flash_attn")
        return agree(Package(), Torch(), device, torch.bfloat16)
    except (ImportError, RuntimeError, AttributeError, TypeError):  # another build of torch or of the package
        return False


def agree(one: Kernel, other: Kernel, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether two kernels give the same output, LSE and gradients on a small case; private operators may change."""
    ends = torch.tensor([0, 5, 12], dtype=torch.int32, device=device)
    call = Call(None, None, ends, ends, 7, 7, causal=True)
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = (torch.randn(12, heads, 32, generator=generator).to(device, dtype) for heads in (4, 2, 2, 4))
    results = []
    for kernels in (one, other):
        out, lse, kept = kernels.forward(q, k, v, call, 0.2, 0.0)
        results.append((out, lse, *kernels.backward(grad, q, k, v, out, lse, call, 0.2, 0.0, kept)))
    return all(bool((a - b).abs().max() <= _AGREE * b.abs().max()) for a, b in zip(*results, strict=True))


def _sequences(call: Call) -> list[tuple[slice, slice]]:
    rows, keys = call.query_ends.tolist(), call.key_ends.tolist()
    return [(slice(*r), slice(*k)) for r, k in zip(pairwise(rows), pairwise(keys), strict=True)]


def _heads(tensor: Tensor, query: Tensor | None = None) -> Tensor:
    """Turn [N, H, D] into the [1, H, N, D] of the CPU kernel, with as many heads as the queries."""
    if query is not None:
        tensor = tensor.repeat_interleave(query.shape[1] // tensor.shape[1], 1)
    return tensor.transpose(0, 1)[None]

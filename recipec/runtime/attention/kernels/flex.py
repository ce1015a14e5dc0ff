"""Attention over a prefix tree by compiled flex attention: one kernel per layer, which skips invisible blocks.

A block of keys is visible to all queries from its first token to the end of its longest subtree, and completely visible
to those inside all of its subtrees.  The extremes of ``exit_N`` in each block therefore determine which blocks are
computed and which need no mask, without a mask of N x N.  Windows and chunks only remove pairs; caps change scores.

The kernel has no backward pass on a CPU, where tests compare its forward pass with :mod:`.reference`.

References:
    Dong et al., `Flex Attention <https://arxiv.org/abs/2412.05496>`_, 2024.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.functional import pad

from recipec.runtime.attention.kernels.reference import Layer
from recipec.runtime.attention.prefix_tree import PrefixTree

BLOCK = 128


def attend(query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, trie: PrefixTree, layer: Layer) -> Tensor:
    """Return the attention output, shaped as the queries; H is a multiple of G, and consecutive heads share a key."""
    width, device = query_HND.shape[-1], query_HND.device
    # the kernel needs widths that are powers of two, and whole blocks: padding tokens attend to themselves
    wide = max(16, 1 << (width - 1).bit_length())
    more = -trie.size % BLOCK
    q, k, v = (pad(t, (0, wide - width, 0, more))[None] for t in (query_HND, key_GND, value_GND))
    exits = np.concatenate([trie.exit_N, np.arange(trie.size, trie.size + more) + 1])
    position = np.concatenate([trie.position_N, np.zeros(more, dtype=np.int64)])
    exit_N, position_N = (torch.from_numpy(out_HND).to(device) for out_HND in (exits, position))
    out, extra = _run(device.type)(
        q, k, v, _capped(layer.softcap), blocks(exits, exit_N, position_N, layer, int(position.max()) + 1), layer.scale,
        enable_gqa=q.shape[1] != k.shape[1], return_aux=flex.AuxRequest(lse=True),
        kernel_options=_options(q),
    )  # fmt: skip
    if layer.sink_H is not None:
        sink = layer.sink_H.to(extra.lse.dtype)[None, :, None]
        out = out * (extra.lse - torch.logaddexp(extra.lse, sink)).exp()[..., None].to(out.dtype)
    out_HND: Tensor = out[0, :, : trie.size, :width]
    return out_HND


def blocks(exits: Any, exit_N: Tensor, position_N: Tensor, layer: Layer, depth: int) -> flex.BlockMask:
    """Return which blocks of queries and keys are computed, and the mask of partly visible ones."""
    count = len(exits) // BLOCK
    by_block = exits.reshape(count, BLOCK)
    begin = np.arange(count) * BLOCK
    later = begin[:, None] > begin
    # rows are blocks of queries, columns of keys
    seen = (begin[:, None] == begin) | (later & (begin[:, None] < by_block.max(-1)))
    whole = later & (begin[:, None] + BLOCK <= by_block.min(-1))
    if layer.restricts(depth):
        whole = np.zeros_like(whole)
    part_count, part = _listed(seen & ~whole, exit_N.device)
    whole_count, wholly = _listed(whole, exit_N.device)
    return flex.BlockMask.from_kv_blocks(
        part_count, part, whole_count, wholly, BLOCK_SIZE=BLOCK, mask_mod=_visible(exit_N, position_N, layer),
        seq_lengths=(len(exits), len(exits)),
    )  # fmt: skip


def _listed(seen: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the number of key blocks of each query block, and their indices, used ones first."""
    order = np.argsort(~seen, axis=-1, kind="stable")
    return tuple(torch.from_numpy(table[None, None].astype(np.int32)).to(device) for table in (seen.sum(-1), order))  # type: ignore[return-value]


def _visible(exit_N: Tensor, position_N: Tensor, layer: Layer) -> Callable[..., Tensor]:
    def visible(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = (key <= query) & (query < exit_N[key])
        if layer.window is not None:
            seen = seen & (position_N[query] - position_N[key] < layer.window)
        if layer.chunk is not None:
            seen = seen & (position_N[query] // layer.chunk == position_N[key] // layer.chunk)
        return seen

    return visible


def _capped(softcap: float | None) -> Callable[..., Tensor] | None:
    if softcap is None:
        return None

    def capped(score: Tensor, *_: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return capped


@functools.cache
def _run(device: str) -> Callable[..., Any]:
    """Return the kernel, compiled for any number of tokens on a GPU."""
    attention: Callable[..., Any] = flex.flex_attention
    return torch.compile(attention, dynamic=True) if device == "cuda" else attention


def _options(query: Tensor) -> dict[str, Any] | None:
    # larger blocks of float32 do not fit into shared memory
    return {"BLOCK_M": 32, "BLOCK_N": 32} if query.is_cuda and query.dtype == torch.float32 else None

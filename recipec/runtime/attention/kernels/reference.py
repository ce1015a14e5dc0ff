"""Attention over a prefix tree without special kernels: slower, with features that flash kernels lack.

:func:`by_path` gives each node the keys of its own path, as Prefix Grouper does for two levels; it supports windows,
chunks, soft-caps and sinks.  :func:`by_mask` computes every pair and masks the invisible ones; tests compare the other
kernels with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recipec.runtime.attention.prefix_tree import PrefixTree

_BLOCK = 512  # queries computed at once under a window, to limit the number of keys


@dataclass(frozen=True, slots=True)
class Layer:
    """How a layer changes scores and limits distances, which are in positions and not in places of the tree."""

    scale: float
    window: int | None = None
    """A query attends to itself and to keys fewer than this number of positions before it."""
    chunk: int | None = None
    """A query attends to keys in its own block of this number of positions."""
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``."""
    sink_H: Tensor | None = None
    """For each head, the score of an additional key with value 0."""

    def restricts(self, depth: int) -> bool:
        """Whether the window or the chunk hides any pair of a sequence of ``depth`` tokens."""
        return (self.window is not None and self.window < depth) or (self.chunk is not None and self.chunk < depth)


def by_mask(
    query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, trie: PrefixTree, layer: Layer, *, stock: bool
) -> Tensor:
    """Attend with a mask of the whole tree, by the stock kernel or by matrix products; memory is N x N."""
    device = query_HND.device
    place = torch.arange(trie.size, device=device)
    leaves = torch.from_numpy(trie.exit_N).to(device)
    position = torch.from_numpy(trie.position_N).to(device)
    seen = (place <= place[:, None]) & (place[:, None] < leaves) & visible(position, position, layer)
    return masked_attention(query_HND, key_GND, value_GND, seen, layer, stock=stock)


def by_path(query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, trie: PrefixTree, layer: Layer) -> Tensor:
    """Attend node by node to the keys of its path; under a window, to those within reach."""
    outputs = []
    reach = trie.size if layer.window is None else layer.window
    restricted = layer.restricts(int(trie.position_N.max()) + 1)
    for (a, b, _), above in zip(trie.pieces, trie.ancestors, strict=True):
        if trie.given_N is not None and trie.given_N[a]:
            outputs.append(value_GND.new_zeros((len(query_HND), b - a, value_GND.shape[-1])))
            continue
        start = int(trie.position_N[a])
        step = _BLOCK if restricted else b - a
        for x in range(a, b, step):
            y = min(b, x + step)
            low = max(0, start + x - a - reach + 1)
            if layer.chunk is not None:
                low = max(low, (start + x - a) // layer.chunk * layer.chunk)
            keys, values = (_path(t, (*above, (a, y)), low) for t in (key_GND, value_GND))
            at_query = torch.arange(start + x - a, start + y - a, device=query_HND.device)
            at_key = torch.arange(low, start + y - a, device=query_HND.device)
            seen = (at_key <= at_query[:, None]) & visible(at_query, at_key, layer)
            outputs.append(masked_attention(query_HND[:, x:y], keys, values, seen, layer, stock=True))
    return torch.cat(outputs, 1)


def _path(tensor: Tensor, ranges: tuple[tuple[int, int], ...], low: int) -> Tensor:
    """Concatenate the tokens of a path from position ``low`` on."""
    parts, position = [], 0
    for a, b in ranges:
        skip = max(0, low - position)
        if skip < b - a:
            parts.append(tensor[:, a + skip : b])
        position += b - a
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def visible(at_query: Tensor, at_key: Tensor, layer: Layer) -> Tensor:
    """Return which keys are in the window and the chunk of which queries, by positions."""
    near = torch.ones(len(at_query), len(at_key), dtype=torch.bool, device=at_query.device)
    if layer.window is not None:
        near &= at_query[:, None] - at_key < layer.window
    if layer.chunk is not None:
        near &= at_query[:, None] // layer.chunk == at_key // layer.chunk
    return near


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, layer: Layer, *, stock: bool, dropout: float = 0.0
) -> Tensor:
    """Compute attention of ``[..., heads, tokens, width]`` under a mask of queries by keys."""
    heads = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(heads, -3), v.repeat_interleave(heads, -3)
    if stock and layer.softcap is None and layer.sink_H is None:
        return scaled_dot_product_attention(q[None], k[None], v[None], seen, dropout, scale=layer.scale)[0]
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = (q @ k.transpose(-1, -2)).to(exact) * layer.scale
    if layer.softcap is not None:
        scores = layer.softcap * torch.tanh(scores / layer.softcap)
    scores = scores.masked_fill(~seen, torch.finfo(exact).min)  # not -inf: padding sees nothing
    if layer.sink_H is not None:
        sink = layer.sink_H.to(exact)[:, None, None].expand(*scores.shape[:-1], 1)
        weights = torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return torch.dropout(weights, dropout, train=dropout > 0).to(v.dtype) @ v

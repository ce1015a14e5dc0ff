"""Attention over a forest without special kernels: slower, and able to do what flash kernels cannot.

:func:`by_path` gives each node the keys of its own path, as Prefix Grouper does for two levels: it knows windows,
chunks, soft-caps and sinks.  :func:`by_mask` computes every pair and masks what is not seen: it is what the others are
held against.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from recipec.runtime.attention.prefix_tree import PrefixTree

_BLOCK = 512  # queries of a window at a time, so that their keys stay few


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer does with scores and distances; distances are in positions, not in places of the forest."""

    scale: float
    window: int | None = None
    """A query sees the keys fewer than this many positions before it, itself among them."""
    chunk: int | None = None
    """A query sees the keys of its own stretch of this many positions."""
    softcap: float | None = None
    """Scores become ``softcap * tanh(score / softcap)``."""
    sink_H: Tensor | None = None
    """Score, for each head, of one more key with value 0."""

    def bites(self, depth: int) -> bool:
        """Whether the window or the chunk hides anything from rows of ``depth`` tokens."""
        return (self.window is not None and self.window < depth) or (self.chunk is not None and self.chunk < depth)


def by_mask(
    query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, trie: PrefixTree, layer: Layer, *, stock: bool
) -> Tensor:
    """Attend with the mask of the whole forest: by the stock kernel, or by plain products; N x N in memory."""
    device = query_HND.device
    place = torch.arange(trie.size, device=device)
    leaves = torch.from_numpy(trie.exit_N).to(device)
    position = torch.from_numpy(trie.position_N).to(device)
    seen = (place <= place[:, None]) & (place[:, None] < leaves) & _near(position, position, layer)
    return _weigh(query_HND, key_GND, value_GND, seen, layer, stock=stock)


def by_path(query_HND: Tensor, key_GND: Tensor, value_GND: Tensor, trie: PrefixTree, layer: Layer) -> Tensor:
    """Attend node by node to the keys of its path; where a window bites, to those that it may reach."""
    made = []
    reach = trie.size if layer.window is None else layer.window
    bites = layer.bites(int(trie.position_N.max()) + 1)
    for (a, b, _), above in zip(trie.pieces, trie.ancestors, strict=True):
        start = int(trie.position_N[a])
        step = _BLOCK if bites else b - a
        for x in range(a, b, step):
            y = min(b, x + step)
            low = max(0, start + x - a - reach + 1)
            if layer.chunk is not None:
                low = max(low, (start + x - a) // layer.chunk * layer.chunk)
            keys, values = (_path(t, (*above, (a, y)), low) for t in (key_GND, value_GND))
            at_query = torch.arange(start + x - a, start + y - a, device=query_HND.device)
            at_key = torch.arange(low, start + y - a, device=query_HND.device)
            seen = (at_key <= at_query[:, None]) & _near(at_query, at_key, layer)
            made.append(_weigh(query_HND[:, x:y], keys, values, seen, layer, stock=True))
    return torch.cat(made, 1)


def _path(tensor: Tensor, ranges: tuple[tuple[int, int], ...], low: int) -> Tensor:
    """Join the tokens of a path from position ``low`` on."""
    parts, position = [], 0
    for a, b in ranges:
        skip = max(0, low - position)
        if skip < b - a:
            parts.append(tensor[:, a + skip : b])
        position += b - a
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _near(at_query: Tensor, at_key: Tensor, layer: Layer) -> Tensor:
    near = torch.ones(len(at_query), len(at_key), dtype=torch.bool, device=at_query.device)
    if layer.window is not None:
        near &= at_query[:, None] - at_key < layer.window
    if layer.chunk is not None:
        near &= at_query[:, None] // layer.chunk == at_key // layer.chunk
    return near


def _weigh(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, layer: Layer, *, stock: bool) -> Tensor:
    """Average values under a mask of queries by keys."""
    heads = q.shape[0] // k.shape[0]
    k, v = k.repeat_interleave(heads, 0), v.repeat_interleave(heads, 0)
    if stock and layer.softcap is None and layer.sink_H is None:
        return scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=seen, scale=layer.scale)[0]
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    scores = (q @ k.transpose(-1, -2)).to(exact) * layer.scale
    if layer.softcap is not None:
        scores = layer.softcap * torch.tanh(scores / layer.softcap)
    scores = scores.masked_fill(~seen, -torch.inf)
    if layer.sink_H is not None:
        sink = layer.sink_H.to(exact)[:, None, None].expand(-1, scores.shape[1], 1)
        weights = torch.softmax(torch.cat([scores, sink], -1), -1)[..., :-1]
    else:
        weights = torch.softmax(scores, -1)
    return weights.to(v.dtype) @ v

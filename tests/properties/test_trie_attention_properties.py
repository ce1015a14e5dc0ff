"""Every way of computing the attention of a tree_of against plain products, in float64, forwards and backwards."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings, strategies as st

from recipec.runtime.attention.kernels import flash_merge, reference, varlen
from recipec.runtime.attention.kernels.reference import Layer
from recipec.runtime.attention.kernels.tiling import tile
from recipec.runtime.attention.prefix_tree import PrefixTree, build

sequences = st.lists(st.lists(st.integers(0, 2), min_size=0, max_size=9), min_size=1, max_size=8).filter(any)
HEADS, GROUPS, WIDTH = 4, 2, 8


def tree_of(rows: list[list[int]]) -> PrefixTree:
    """Merge rows of any lengths."""
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), dtype=np.int64)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row)] = row
    return build(tokens, lengths)


def inputs(trie: PrefixTree, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Random queries, keys, values and sinks."""
    generator = torch.Generator().manual_seed(trie.size)
    shapes = ((HEADS, trie.size, WIDTH), (GROUPS, trie.size, WIDTH), (GROUPS, trie.size, WIDTH), (HEADS,))
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [tensor.to(dtype).requires_grad_() for tensor in made]


def row_by_row(q, k, v, trie: PrefixTree, layer: Layer, rows: list[list[int]]) -> torch.Tensor:
    """Attend in each row alone, by plain products: what no tree has a part in."""
    found = torch.zeros(q.shape, dtype=q.dtype)
    for row, nodes in zip(rows, trie.node_RT, strict=True):
        at = torch.tensor(nodes[: len(row)].tolist(), dtype=torch.long)
        keys, values = (t[:, at].repeat_interleave(HEADS // GROUPS, 0) for t in (k, v))
        scores = q[:, at] @ keys.transpose(-1, -2) * layer.scale
        if layer.softcap is not None:
            scores = layer.softcap * torch.tanh(scores / layer.softcap)
        t = torch.arange(len(row))
        seen = t <= t[:, None]
        if layer.window is not None:
            seen &= t[:, None] - t < layer.window
        if layer.chunk is not None:
            seen &= t[:, None] // layer.chunk == t // layer.chunk
        weights = scores.masked_fill(~seen, -torch.inf).exp()
        below = weights.sum(-1, keepdim=True)
        if layer.sink_H is not None:
            below = below + layer.sink_H[:, None, None].exp()
        found = found.index_copy(1, at, weights / below @ values)
    return found


def agree(one, other, given: list[torch.Tensor]) -> None:
    """Compare outputs and the gradients by everything that is given."""
    weight = torch.randn(one.shape, generator=torch.Generator().manual_seed(1), dtype=one.dtype)
    asked = {"allow_unused": True, "materialize_grads": True, "retain_graph": True}
    mine = torch.autograd.grad((one * weight).sum(), given, **asked)
    theirs = torch.autograd.grad((other * weight).sum(), given, **asked)
    for found, expected in zip((one, *mine), (other, *theirs), strict=True):
        assert (found - expected).abs().max() < 1e-12


@settings(max_examples=60, deadline=None)
@given(sequences, st.booleans(), st.sampled_from([0, 4, 64]))
def test_rectangles_are_the_attention_of_each_row(rows, sunk, limit) -> None:
    """Squares and rectangles, merged, give each row's own attention to 1e-12, and its gradients, sinks among them."""
    trie = tree_of(rows)
    q, k, v, sink = inputs(trie)
    layer = Layer(0.3, sink_H=sink if sunk else None)
    expected = row_by_row(q, k, v, trie, layer, rows)
    chosen = tile(trie.pieces, trie.exit_N, limit)
    agree(flash_merge.attend(q, k, v, chosen, layer.scale, layer.sink_H), expected, [q, k, v, sink])


@settings(max_examples=30, deadline=None)
@given(sequences, st.booleans())
def test_one_call_a_level_is_the_same(rows, sunk) -> None:
    """The calls that a GPU makes, made here one sequence at a time, give the same, and are one a level."""
    trie = tree_of(rows)
    q, k, v, sink = inputs(trie)
    layer = Layer(0.3, sink_H=sink if sunk else None)
    plan = varlen.calls(trie, q.device)
    assert len(plan) == 1 + len(trie.levels)
    found = varlen.attend(*(t.transpose(0, 1) for t in (q, k, v)), plan, layer.scale, layer.sink_H).transpose(0, 1)
    agree(found, row_by_row(q, k, v, trie, layer, rows), [q, k, v, sink])


@settings(max_examples=40, deadline=None)
@given(
    sequences,
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.none() | st.floats(0.5, 5),
    st.booleans(),
)
def test_paths_and_masks_know_windows_chunks_caps_and_sinks(rows, window, chunk, softcap, sunk) -> None:
    """Distances are counted in positions: each row's own attention again, whatever a layer does to its scores."""
    trie = tree_of(rows)
    q, k, v, sink = inputs(trie)
    layer = Layer(0.3, window, chunk, softcap, sink if sunk else None)
    expected = row_by_row(q, k, v, trie, layer, rows)
    agree(reference.by_path(q, k, v, trie, layer), expected, [q, k, v, sink])
    for stock in (True, False):
        agree(reference.by_mask(q, k, v, trie, layer, stock=stock), expected, [q, k, v, sink])


@settings(max_examples=40, deadline=None)
@given(sequences, st.integers(0, 9), st.integers(0, 9), st.booleans(), st.sampled_from([0, 64]))
def test_given_tokens_have_keys_alone(rows, row, depth, sunk, limit) -> None:
    """With a path given, other tokens attend as before; gradients reach the keys and values of given ones."""
    trie = tree_of(rows)
    q, k, v, sink = inputs(trie)
    row %= len(rows)
    given_N = np.zeros(trie.size, dtype=bool)
    given_N[trie.node_RT[row, : min(depth, trie.lengths_R[row])]] = True
    own = torch.from_numpy(np.flatnonzero(~given_N))
    assume(len(own))
    layer = Layer(0.3, sink_H=sink if sunk else None)
    expected = row_by_row(q, k, v, trie, layer, rows)[:, own]
    parted = trie.giving(given_N)
    chosen = tile(parted.pieces, parted.exit_N, limit, given_N=given_N)
    agree(flash_merge.attend(q, k, v, chosen, layer.scale, layer.sink_H)[:, own], expected, [q, k, v, sink])
    agree(reference.by_path(q, k, v, parted, layer)[:, own], expected, [q, k, v, sink])
    turned = (t.transpose(0, 1) for t in (q, k, v))
    found = varlen.attend(*turned, varlen.calls(parted, q.device), layer.scale, layer.sink_H)
    agree(found.transpose(0, 1)[:, own], expected, [q, k, v, sink])


def test_windows_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window over long nodes is computed a few queries at a time, with the same result."""
    sizes, attend = [], reference.masked_attention
    monkeypatch.setattr(reference, "_BLOCK", 5)
    monkeypatch.setattr(
        reference, "masked_attention", lambda q, *rest, **how: sizes.append(q.shape[1]) or attend(q, *rest, **how)
    )
    rows = [[0] * 20 + [1] * 13, [0] * 20 + [2] * 17]
    trie = tree_of(rows)
    q, k, v, _ = inputs(trie)
    layer = Layer(0.3, window=4)
    agree(reference.by_path(q, k, v, trie, layer), row_by_row(q, k, v, trie, layer, rows), [q, k, v])
    assert sum(sizes) == trie.size
    assert max(sizes) == 5


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.1)])
def test_lower_precisions_stay_near(dtype: torch.dtype, tolerance: float) -> None:
    """In float32 and bfloat16 the kernels are as exact as the format."""
    rows = [[0] * 9 + [i] * 7 + [j] * 5 for i in (1, 2) for j in (3, 4)]
    trie = tree_of(rows)
    q, k, v, sink = inputs(trie, dtype)
    found = flash_merge.attend(q, k, v, trie.tiling, 0.3, sink)
    exact = [t.detach().double() for t in (q, k, v)]
    expected = row_by_row(*exact, trie, Layer(0.3, sink_H=sink.detach().double()), rows)
    assert found.dtype == dtype
    assert (found.double() - expected).abs().max() < tolerance

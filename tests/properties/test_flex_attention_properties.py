"""The kernel `flex` where it can be tested without a GPU: its forward, and which blocks it is told to compute."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from test_trie_attention_properties import inputs, tree_of

from recipec.runtime.attention.kernels import flex, reference
from recipec.runtime.attention.kernels.reference import Layer

LAYERS = [
    Layer(0.3),
    Layer(0.3, window=3),
    Layer(0.3, chunk=4),
    Layer(0.3, softcap=1.5),
    Layer(0.3, window=5, softcap=2.0),
]
pytestmark = pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile:UserWarning")


@pytest.mark.parametrize("sunk", [False, True])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_forwards_agree_with_the_mask_of_the_forest(layer: Layer, sunk: bool) -> None:
    """Windows, chunks, caps and sinks, over a tree_of of several blocks: plain products under the whole mask."""
    draw = np.random.default_rng(0)
    stems = [draw.integers(0, 5, 40).tolist() for _ in range(2)]
    rows = [[*stem, *draw.integers(0, 5, int(n)).tolist()] for stem in stems for n in draw.integers(1, 60, 5)]
    trie = tree_of([*rows, rows[0], stems[0], [4]])
    assert trie.size > 2 * flex.BLOCK
    q, k, v, sink = (tensor.detach().float() for tensor in inputs(trie))
    layer = Layer(layer.scale, layer.window, layer.chunk, layer.softcap, sink if sunk else None)
    with torch.no_grad():
        found = flex.attend(q, k, v, trie, layer)
    expected = reference.by_mask(q, k, v, trie, layer, stock=False)
    assert torch.allclose(found, expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=1, max_size=8),
    st.sampled_from([None, 2, 5]),
    st.sampled_from([1, 2, 4]),
)
def test_blocks_hold_every_visible_pair(rows: list[list[int]], window: int | None, size: int) -> None:
    """Computed blocks are those with a visible pair, or more under a window; those without a mask are all visible."""
    trie = tree_of(rows)
    more = -trie.size % size
    exits = np.concatenate([trie.exit_N, np.arange(trie.size, trie.size + more) + 1])
    position = np.concatenate([trie.position_N, np.zeros(more, dtype=np.int64)])
    layer = Layer(1.0, window=window)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "BLOCK", size)
        depth = int(position.max()) + 1
        made = flex.blocks(exits, torch.from_numpy(exits), torch.from_numpy(position), layer, depth)
    count = len(exits)
    place = torch.arange(count)
    seen = made.mask_mod(place, place, place[:, None], place[None, :])
    by_block = seen.reshape(count // size, size, count // size, size).permute(0, 2, 1, 3).flatten(2)
    part, whole = torch.zeros(2, count // size, count // size, dtype=torch.bool)
    for kept, number, which in (
        (part, made.kv_num_blocks, made.kv_indices),
        (whole, made.full_kv_num_blocks, made.full_kv_indices),
    ):
        for row, (many, listed) in enumerate(zip(number[0, 0].tolist(), which[0, 0].tolist(), strict=True)):
            kept[row, listed[:many]] = True
    assert not (part & whole).any()
    assert by_block[whole].all()
    assert not by_block[~(part | whole)].any()
    if window is None:
        assert torch.equal(part | whole, by_block.any(-1))
        assert torch.equal(whole, by_block.all(-1) & ~torch.eye(count // size, dtype=torch.bool))

"""Rows at the edges of what a tree_of is made for, in float64, by every way of computing its attention."""

import pytest
from test_trie_attention_properties import agree, inputs, row_by_row, tree_of

from recipec.runtime.attention.kernels import flash_merge, reference, varlen
from recipec.runtime.attention.kernels.reference import Layer

CASES = {
    "one row": [[0, 1, 2, 0]],
    "one token": [[1]],
    "single tokens": [[0], [1], [2]],
    "duplicates": [[0, 1, 2], [0, 1, 2], [0, 1, 2]],
    "one a prefix of another": [[0, 1], [0, 1, 2, 2], [0]],
    "an empty response": [[0, 1, 2], [0, 1, 2, 1], []],
    "nothing shared": [[0, 1, 1], [1, 0], [2, 2, 2, 2]],
    "a chain of branches": [[0] * n + [1] for n in range(1, 7)],
}


@pytest.mark.parametrize("sunk", [False, True])
@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
def test_every_way_is_the_attention_of_each_row(rows: list[list[int]], sunk: bool) -> None:
    """Rectangles, one call a level, paths and masks give each row's own attention to 1e-12, and its gradients."""
    trie = tree_of(rows)
    q, k, v, sink = given = inputs(trie)
    layer = Layer(0.3, sink_H=sink if sunk else None)
    expected = row_by_row(q, k, v, trie, layer, rows)
    turned = (t.transpose(0, 1) for t in (q, k, v))
    for found in (
        flash_merge.attend(q, k, v, trie.tiling, layer.scale, layer.sink_H),
        varlen.attend(*turned, varlen.calls(trie, q.device), layer.scale, layer.sink_H).transpose(0, 1),
        reference.by_path(q, k, v, trie, layer),
        reference.by_mask(q, k, v, trie, layer, stock=True),
        reference.by_mask(q, k, v, trie, layer, stock=False),
    ):
        agree(found, expected, given)

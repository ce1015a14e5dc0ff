"""Examples in blocks: every one once, none too full, and steps that are counted in them."""

import json

from hypothesis import given, strategies as st
from support.small_recipes import SFT, rows

from recipec.runtime.data.blocks import best_fit


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(30, 64))
def test_blocks_hold_every_example_once(lengths, room):
    """Each example is in one block, no block is over its room, and no two blocks could be one."""
    blocks = best_fit(lengths, room)
    assert sorted(i for block in blocks for i in block) == list(range(len(lengths)))
    sizes = sorted(sum(lengths[i] for i in block) for block in blocks)
    assert all(size <= room for size in sizes)
    assert len(sizes) < 2 or sizes[0] + sizes[1] > room


def test_steps_count_blocks(folder):
    """Twelve examples of five tokens are three blocks of twenty: three steps an epoch, of four rows each."""
    data = rows(*({"prompt": f"{i:02}", "completion": "ab"} for i in range(12)))
    recipe = SFT.replace("{path: a.jsonl}", "{path: a.jsonl, packing: true, max_length: 20}")
    recipe = recipe.replace("{steps: 2, rows_per_step: 2}", "{epochs: 2, rows_per_step: 1}")
    ended = folder.run(recipe, a__jsonl=data)
    assert ended.code == 0, ended.err
    lines = (folder.path / "runs/small/stages/learn/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert [line["num_tokens"] for line in found] == [20 * step for step in range(1, 7)]

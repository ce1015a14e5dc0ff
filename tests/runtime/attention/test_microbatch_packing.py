"""Rows that share prefixes, divided among forward passes."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, strategies as st

from recipec.diagnostics.model import RecipeError
from recipec.runtime.attention.microbatch_packing import pack
from recipec.runtime.attention.prefix_tree import build
from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.training.packing import pack_rows

BUDGET = 14
sequences = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=7), min_size=1, max_size=9)


def laid(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad rows."""
    return pad_rows(rows, torch.int64), torch.tensor([len(row) for row in rows])


def size(tokens: torch.Tensor, lengths: torch.Tensor, rows: torch.Tensor) -> int:
    """Unique tokens of some rows."""
    return build(tokens[rows].numpy(), lengths[rows].numpy()).size


@given(sequences)
def test_every_pass_fits_and_the_loss_is_told(rows: list[list[int]]) -> None:
    """Each row is in one pass, no tree is over the budget, and the tokens computed twice are counted exactly."""
    tokens, lengths = laid(rows)
    found = pack(tokens, lengths, [torch.tensor([i]) for i in range(len(rows))], BUDGET)
    assert sorted(torch.cat(found.parts).tolist()) == list(range(len(rows)))
    sizes = [size(tokens, lengths, part) for part in found.parts]
    assert max(sizes) <= BUDGET
    assert sum(sizes) == size(tokens, lengths, torch.arange(len(rows))) + found.recomputed_tokens


@given(sequences)
def test_no_other_cut_in_that_order_is_better(rows: list[list[int]]) -> None:
    """Of all ways of cutting the tree in stretches, none computes fewer tokens, or as many in fewer passes."""
    tokens, lengths = laid(rows)
    found = pack(tokens, lengths, [torch.tensor([i]) for i in range(len(rows))], BUDGET)
    order = torch.cat(found.parts)
    best = None
    for bits in range(1 << (len(rows) - 1)):
        ends = [0, *(i + 1 for i in range(len(rows) - 1) if bits >> i & 1), len(rows)]
        sizes = [size(tokens, lengths, order[a:b]) for a, b in pairwise(ends)]
        if max(sizes) <= BUDGET:
            best = min(best or (1 << 30, 0), (sum(sizes), len(sizes)))
    assert best == (sum(size(tokens, lengths, part) for part in found.parts), len(found.parts))


@given(sequences.filter(lambda rows: len(rows) > 1))
def test_pairs_stay_together(rows: list[list[int]]) -> None:
    """Rows of one unit are in one pass, within the budget, wherever their prefixes lie."""
    tokens, lengths = laid(rows)
    units = [torch.tensor(list(range(i, min(i + 2, len(rows))))) for i in range(0, len(rows), 2)]
    found = pack(tokens, lengths, units, BUDGET)
    where = {row: number for number, part in enumerate(found.parts) for row in part.tolist()}
    assert all(len({where[int(row)] for row in unit}) == 1 for unit in units)
    assert max(size(tokens, lengths, part) for part in found.parts) <= BUDGET


def test_groups_are_whole_where_they_fit() -> None:
    """Two groups of 5 + 2 * 2 tokens in passes of 10: one each, nothing lost."""
    rows = [[p, 1, 1, 1, 1, g, g] for g in (1, 2) for p in (8, 9)]
    found = pack(*laid(rows), [torch.tensor([i]) for i in range(4)], 10)
    assert sorted(sorted(part.tolist()) for part in found.parts) == [[0, 2], [1, 3]]
    assert found.recomputed_tokens == 0


def test_a_group_over_the_budget_costs_its_prompt_again() -> None:
    """Four answers of 2 tokens to a prompt of 5 in passes of 10: two passes, the prompt is computed twice."""
    rows = [[8, 1, 1, 1, 1, g, g] for g in range(4)]
    found = pack(*laid(rows), [torch.tensor([i]) for i in range(4)], 10)
    assert (len(found.parts), found.recomputed_tokens) == (2, 5)


def test_prompts_alone_are_counted_where_they_alone_are_shared() -> None:
    """Equal answers cost their tokens each under the two-level form."""
    tokens, _ = laid([[1, 2, 3, 4], [1, 2, 3, 4]])
    batch = Batch(
        tokens_RT=tokens, attend_RT=torch.ones(2, 4, dtype=torch.bool), trained_RT=torch.arange(4).repeat(2, 1) >= 2
    )
    assert len(pack_rows(batch, 5, padded=False, sharing="prompts").parts) == 2
    assert len(pack_rows(batch, 6, padded=False, sharing="prompts").parts) == 1
    assert len(pack_rows(batch, 4, padded=False, sharing="prefixes").parts) == 1


def test_a_row_over_the_budget_is_refused() -> None:
    """It is neither cut nor let through."""
    with pytest.raises(RecipeError) as refused:
        pack(*laid([[1] * 20]), [torch.tensor([0])], 14)
    assert refused.value.diagnostics[0].code == "RC768"

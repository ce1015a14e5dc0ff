"""Rows into updates and forward passes."""

import pytest
import torch
from hypothesis import given, strategies as st

from recipec.diagnostics.model import RecipeError
from recipec.runtime.training.minibatch import microbatches, minibatches, updates_per_step

KEY = (0, "explore", 3, 0)


def test_one_update_takes_every_row_in_order() -> None:
    """Without a division the minibatch is the batch, as sampled."""
    (index,) = minibatches(torch.tensor([0, 0, 1, 1]), {}, KEY)

    assert index.tolist() == [0, 1, 2, 3]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 4))
def test_groups_stay_together(prompts: int, generations: int, size: int) -> None:
    """Every minibatch holds whole groups, and every row appears exactly once."""
    unit_R = torch.arange(prompts).repeat_interleave(generations)
    found = list(minibatches(unit_R, {"prompts_per_update": size}, KEY))

    assert sorted(torch.cat(found).tolist()) == list(range(prompts * generations))
    for index in found:
        for unit in unit_R[index].unique():
            assert int((unit_R[index] == unit).sum()) == generations


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.integers(1, 6))
def test_rows_of_a_group_follow_each_other(unit: list[int], size: int) -> None:
    """Groups of any size, wherever their rows stand: inside an update each is one run, cut at its borders alone."""
    unit_R = torch.tensor(unit)
    found = [unit_R[index].tolist() for index in minibatches(unit_R, {"rows_per_update": size}, KEY)]

    runs = [[u for i, u in enumerate(rows) if not i or rows[i - 1] != u] for rows in found]
    assert sorted(u for run in runs for u in run) == sorted(set(unit))


def test_order_depends_on_the_key_alone() -> None:
    """The same step and pass draw the same minibatches, another pass others."""
    unit_R = torch.arange(16)
    budget = {"updates_per_step": 4}
    once = [i.tolist() for i in minibatches(unit_R, budget, KEY)]

    assert once == [i.tolist() for i in minibatches(unit_R, budget, KEY)]
    assert once != [i.tolist() for i in minibatches(unit_R, budget, (0, "explore", 3, 1))]


def test_the_order_of_a_key_stays_what_it_is() -> None:
    """A run of one version continues under the next: what is drawn from a key is not drawn otherwise."""
    budget = {"updates_per_step": 2}
    assert [i.tolist() for i in minibatches(torch.arange(6), budget, KEY)] == [[2, 3, 1], [5, 0, 4]]


def test_an_update_of_all_rows_is_not_shuffled() -> None:
    """Neither one that is exactly as large as the step, nor one that could be larger."""
    for size in (4, 5):
        (index,) = minibatches(torch.arange(4), {"rows_per_update": size}, KEY)
        assert index.tolist() == [0, 1, 2, 3]


def test_shuffled_rows_leave_their_groups() -> None:
    """`shuffle_rows` deals rows one by one: an update of three has rows of groups of two."""
    unit_R = torch.tensor([0, 0, 1, 1, 2, 2])
    found = list(minibatches(unit_R, {"rows_per_update": 3, "shuffle_rows": True}, KEY))
    assert [len(index) for index in found] == [3, 3]
    assert sorted(torch.cat(found).tolist()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("remainder", ["keep", "drop", "copy"])
def test_a_last_minibatch_that_is_full_is_used(remainder: str) -> None:
    """There is no remainder to drop or to fill up."""
    found = list(minibatches(torch.arange(4), {"rows_per_update": 2, "remainder": remainder}, KEY))

    assert [2, 2] == [len(index) for index in found]


@pytest.mark.parametrize(("remainder", "sizes"), [("keep", [2, 2, 1]), ("drop", [2, 2]), ("copy", [2, 2, 2])])
def test_a_short_last_minibatch(remainder: str, sizes: list[int]) -> None:
    """It is used, left out, or filled up with rows of the same step."""
    found = list(minibatches(torch.arange(5), {"rows_per_update": 2, "remainder": remainder}, KEY))

    assert sizes == [len(index) for index in found]


def test_a_batch_smaller_than_one_update_is_used_all_the_same() -> None:
    """Dropping a remainder never drops everything."""
    found = list(minibatches(torch.arange(3), {"rows_per_update": 8, "remainder": "drop"}, KEY))

    assert [3] == [len(index) for index in found]


@pytest.mark.parametrize(
    ("remainder", "sizes"), [("keep", [1, 1, 2, 1, 2]), ("drop", [1] * 5), ("copy", [2, 2, 2, 2, 2])]
)
def test_as_many_updates_as_the_recipe_says(remainder: str, sizes: list[int]) -> None:
    """Seven prompts in five updates are five updates, whatever becomes of the remainder."""
    found = list(minibatches(torch.arange(7), {"updates_per_step": 5, "remainder": remainder}, KEY))

    assert sizes == [len(index) for index in found]


def test_updates_of_a_full_step() -> None:
    """A schedule counts updates in the unit that the recipe uses, times passes; groups that do not fit add some."""
    assert updates_per_step({"rows_per_update": 10}, 16, 4) == 8
    assert updates_per_step({"rows_per_update": 16, "passes": 2}, 8, 4) == 4
    assert updates_per_step({"updates_per_step": 4}, 8, 4) == 4
    assert updates_per_step({"prompts_per_update": 3, "remainder": "drop"}, 8, 4) == 2


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.booleans())
def test_no_forward_pass_is_over_the_budget(lengths: list[int], padded: bool) -> None:
    """Every row is in exactly one micro-batch, none of which has more tokens than allowed."""
    lengths_R = torch.tensor(lengths)
    found = list(microbatches(lengths_R, None, 64, padded=padded))

    assert sorted(torch.cat(found).tolist()) == list(range(len(lengths)))
    for index in found:
        cost = int(lengths_R[index].max()) * len(index) if padded else int(lengths_R[index].sum())
        assert cost <= 64


@pytest.mark.parametrize(
    ("lengths", "padded", "expected"),
    [
        ([32, 32, 32, 32], False, [[0, 1], [2, 3]]),
        ([32, 32, 32, 32], True, [[0, 1], [2, 3]]),
        ([4, 60, 4], False, [[1, 0], [2]]),
        ([4, 60, 4], True, [[1], [0, 2]]),
        ([60, 20, 20, 20, 4], True, [[0], [1, 2, 3], [4]]),
    ],
)
def test_forward_passes_are_filled_longest_first(lengths: list[int], padded: bool, expected: list[list[int]]) -> None:
    """Up to exactly 64 tokens, those of padding counted or not; each pass begins to count anew."""
    found = microbatches(torch.tensor(lengths), None, 64, padded=padded)

    assert [index.tolist() for index in found] == expected


def test_a_pair_counts_as_it_is_laid_out() -> None:
    """Rows of 40 and 20 tokens are 60 side by side, and 80 where both are as wide as the wider one."""
    lengths_R, pair_R = torch.tensor([40, 20]), torch.tensor([0, 0])
    assert [index.tolist() for index in microbatches(lengths_R, pair_R, 64, padded=False)] == [[0, 1]]
    with pytest.raises(RecipeError, match=r"80 tokens, more than microbatch_tokens \(64\)"):
        list(microbatches(lengths_R, pair_R, 64, padded=True))


def test_pairs_share_a_forward_pass() -> None:
    """Rows of one pair are never split."""
    unit_R = torch.tensor([0, 1, 0, 1, 2, 2])
    for index in microbatches(torch.full((6,), 10), unit_R, 20, padded=False):
        assert len(unit_R[index].unique()) == 1


def test_a_row_over_the_budget_is_refused() -> None:
    """It is neither cut nor let through."""
    with pytest.raises(RecipeError) as refused:
        list(microbatches(torch.tensor([100]), None, 64, padded=True))

    assert refused.value.diagnostics[0].code == "RC768"

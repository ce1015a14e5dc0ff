"""Anchor states: which rows of a prompt saw the same state."""

from difflib import SequenceMatcher

import pytest
import torch
from hypothesis import given, strategies as st

from recipec.diagnostics.model import RecipeError
from recipec.runtime.objective.grouping import anchor_state, state_key, state_text

TEXTS = st.lists(st.tuples(st.integers(0, 1), st.text("ab c", max_size=12)), max_size=12)


def groups(states, prompts=None, failed=(), threshold=None):
    """Group states; of one prompt where none is said."""
    by_prompt_R = torch.tensor(prompts or [0] * len(states), dtype=torch.int64)
    failed_R = torch.tensor([row in failed for row in range(len(states))], dtype=torch.bool)
    match = "exact" if threshold is None else "similarity"
    return anchor_state(states, by_prompt_R, failed_R, match=match, threshold=threshold)["by_anchor_R"].tolist()


def test_exact_keys():
    """Text, numbers and JSON data by value; arrays of numbers without their shape; never across prompts."""
    assert groups(["a", "a", "A", "a"], [0, 1, 0, 0]) == [0, 1, 2, 0]
    assert groups([1, 1.0, True, "1", None]) == [0, 0, 0, 1, 2]
    assert groups([[[1, 2], [3, 4]], [1, 2, 3, 4], [[1, 2, 3, 4]], [[1, 2], [3]], [1, 2, 3]]) == [0, 0, 0, 1, 2]
    assert groups([["a", "b"], ["ab"], ["a", "b"], [["a"], ["b"]]]) == [0, 1, 0, 2]
    assert groups([{"x": 1, "y": [1]}, {"y": [1.0], "x": 1}, {"x": 1}, [["x", 1]]]) == [0, 0, 1, 2]
    assert groups([{"x": {"y": "a"}}, {"x": {"y": "b"}}, {}, []]) == [0, 1, 2, 3]
    assert state_key(torch.tensor([[1, 2]])) == state_key([1, 2])


def test_failed_rows_change_nobody():
    """A row that failed founds no group and joins none, whatever its state."""
    assert groups(["a", "a", None, "a"], failed={0, 2}) == [0, 1, 2, 1]
    assert groups(["aaaa", "aaab", "aabb"], failed={0}, threshold=0.7) == [0, 1, 1]
    assert groups(["x", object()], failed={1}) == [0, 1]


@given(TEXTS, st.sampled_from([0.3, 0.5, 0.8, 0.95]))
def test_similarity_is_greedy(rows, threshold):
    """A row joins the first group whose first member it resembles, compared in this order and no other."""
    found, first = [], []
    for prompt, text in rows:
        fits = [
            i for i, (p, m) in enumerate(first) if p == prompt and SequenceMatcher(None, text, m).ratio() >= threshold
        ]
        if not fits:
            first.append((prompt, text))
        found.append(fits[0] if fits else len(first) - 1)
    assert groups([text for _, text in rows], [prompt for prompt, _ in rows], threshold=threshold) == found


def test_long_text_leaves_popular_letters_out():
    """From 200 letters on, frequent ones do not count as matches by themselves: `autojunk` is on."""
    one, other = "ab" * 150 + "x" * 50, "ba" * 150 + "y" * 50
    ratio = SequenceMatcher(None, other, one).ratio()
    assert ratio < SequenceMatcher(None, other, one, autojunk=False).ratio() - 0.1
    assert groups([one, other], threshold=ratio + 0.01) == [0, 1]


def test_states_that_cannot_be_compared():
    """Numbers are not similar, and objects are not data."""
    for states, threshold, code in ([[1], 0.5, "RC796"], [[object()], None, "RC796"]):
        with pytest.raises(RecipeError) as refused:
            groups(states, threshold=threshold)
        assert refused.value.diagnostics[0].code == code
    with pytest.raises(RecipeError):
        groups([ENDLESS])


def test_a_state_without_a_place_has_none_in_the_message():
    """A state that a caller compares may come from no file."""
    for read, state in ((state_key, object()), (state_text, 5)):
        with pytest.raises(RecipeError) as refused:
            read(state)
        assert refused.value.diagnostics[0].spans == ()


def test_no_rows_are_no_groups():
    """The column is of integers all the same."""
    empty_R = torch.zeros(0, dtype=torch.int64)
    made = anchor_state([], empty_R, empty_R.bool(), match="exact", threshold=None)["by_anchor_R"]
    assert made.dtype == torch.int64
    assert len(made) == 0


def test_columns_of_unequal_lengths_are_refused():
    """A row without a prompt is an error of the caller, not a row that is left out."""
    with pytest.raises(ValueError, match="shorter"):
        groups(["a", "b"], [0])


ENDLESS: list = []
ENDLESS.append([ENDLESS, "x"])


@pytest.mark.parametrize(
    ("read", "state", "problem"),
    [
        (state_key, ENDLESS, "a state of type `list` cannot be compared: it is nested too deeply"),
        (state_key, object(), "a state of type `object` cannot be compared: `object` is not JSON data"),
        (state_text, 5, "a state of type `int` cannot be compared: similarity is measured on text"),
    ],
)
def test_a_state_that_cannot_be_compared_is_named_with_its_place(read, state, problem):
    """Type, reason, file and line."""
    with pytest.raises(RecipeError) as refused:
        read(state, "rows.jsonl", 7)
    (found,) = refused.value.diagnostics
    assert problem in found.message
    assert (found.spans[0].file, found.spans[0].line) == ("rows.jsonl", 7)

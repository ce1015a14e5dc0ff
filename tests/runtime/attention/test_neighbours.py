"""The order of sequences in a prefix tree that shares prompts alone."""

import numpy as np
import pytest

from recipec.runtime.attention.prefix_tree import neighbours


@pytest.mark.parametrize(
    ("rows", "prompts", "order", "shared"),
    [
        # the second row begins as the others, and its prompt is longer: it does not come between them
        ([[1, 2, 3, 4, 1], [1, 2, 3, 4, 5, 7], [1, 2, 3, 4, 9]], [4, 5, 4], [0, 2, 1], [0, 4, 0]),
        ([[1, 5], [1, 6], [2, 3, 5], [2, 3, 6]], [1, 1, 2, 2], [0, 1, 2, 3], [0, 1, 0, 2]),
        ([[1, 5], [1, 5, 6]], [1, 2], [0, 1], [0, 0]),
    ],
)
def test_rows_of_equal_prompts_are_neighbours(rows, prompts, order, shared):
    """Rows share a prompt of the same tokens and the same length, and nothing after it."""
    lengths_R = np.array([len(row) for row in rows])
    tokens_RT = np.array([row + [0] * (lengths_R.max() - len(row)) for row in rows], dtype=np.int32)
    order_R, shared_R = neighbours(tokens_RT, lengths_R, np.array(prompts))
    assert order_R.tolist() == order
    assert shared_R.tolist() == shared


def test_columns_of_rows_have_one_length():
    """A row without a length, or without a prompt, is an error of the caller."""
    tokens_RT = np.array([[1, 2], [1, 3]], dtype=np.int32)
    with pytest.raises(ValueError, match="zip"):
        neighbours(tokens_RT, np.array([2]), None)
    with pytest.raises(ValueError, match="zip"):
        neighbours(tokens_RT, np.array([2, 2]), np.array([1]))

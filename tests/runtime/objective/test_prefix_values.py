"""Credit where rows part, against prefixes compared one by one."""

from statistics import mean, stdev

import pytest
import torch

from recipec.runtime.objective.prefix_values import prefix_value

TOKENS = [
    [[1, 2, 5, 6, 0], [1, 2, 5, 7, 3], [1, 2, 8, 9, 9], [1, 2, 8, 9, 9], [1, 2, 5, 6, 4]],
    [[4, 3, 5, 5, 5], [4, 3, 5, 5, 0], [4, 3, 1, 5, 5], [4, 3, 5, 5, 5], [4, 3, 2, 5, 5]],
]
ROWS = [row for group in TOKENS for row in group]
VALUES = [1.0, 0.0, 0.25, 0.5, 1.0, 1.0, 0.0, 1.0, 0.0, 0.5]
GROUPS = [0] * 5 + [1] * 5
PROMPT = 2


def credit(values, groups=GROUPS, failed=(), **params):
    """Call the level; 0 is padding."""
    tokens_RT = torch.tensor(ROWS)
    failed_R = torch.tensor([row in failed for row in range(len(ROWS))])
    attend_RT = tokens_RT != 0
    trained_RT = attend_RT & (torch.arange(5) >= PROMPT)
    given = {"weight": 1.0, "scale": "std", "epsilon": 1e-6} | params
    made = prefix_value(torch.tensor(values), torch.tensor(groups), failed_R, tokens_RT, attend_RT, trained_RT, **given)
    return made["advantage_RT"].tolist()


def expected(values, groups, failed, scale, weight):
    """Average the values of the rows whose text begins alike."""
    rows = [[token for token in row if token] for row in ROWS]
    made = []
    for place, row in enumerate(rows):
        others = [i for i in range(len(rows)) if groups[i] == groups[place] and i not in failed]
        spread = stdev(values[i] for i in others) + 1e-6 if len(others) > 1 else 0.0
        given = [0.0] * 5
        if place not in failed and spread > 1e-6:
            for t in range(PROMPT, len(row)):
                before, after = (mean(values[i] for i in others if rows[i][:n] == row[:n]) for n in (t, t + 1))
                given[t] = weight * (after - before) / (spread if scale == "std" else 1.0)
        made.append(given)
    return made


@pytest.mark.parametrize("failed", [(), (0, 7), (0, 1, 2, 3)])
@pytest.mark.parametrize(("scale", "weight"), [("std", 1.0), ("none", 0.5)])
def test_values_are_those_of_prefixes(failed, scale, weight):
    """Every token of every row; failed rows are in no mean."""
    made = credit(VALUES, failed=failed, scale=scale, weight=weight)
    for row, other in zip(made, expected(VALUES, GROUPS, failed, scale, weight), strict=True):
        assert row == pytest.approx(other, abs=1e-6)


def test_credits_of_a_row_add_up_to_its_leaf():
    """Without a scale, the sum over a row is the mean of the rows equal to it, less the mean of its group."""
    made = credit(VALUES, scale="none")
    assert sum(made[2]) == pytest.approx(0.375 - 0.55)  # rows 2 and 3 are the same text
    assert sum(made[1]) == pytest.approx(0.0 - 0.55)


def test_nothing_to_compare_is_no_credit():
    """Groups of equal values, and rows alone."""
    assert not any(map(any, credit([0.1] * 10)))
    assert not any(map(any, credit(VALUES, list(range(10)))))

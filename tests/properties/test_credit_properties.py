"""What credit must be, whatever the rewards are."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, strategies as st

from recipec.runtime.objective.advantage import batch_standardised, group_relative, rloo

EPSILON = 1e-6
ROWS = st.lists(
    st.tuples(st.integers(-64, 64).map(lambda n: n / 8), st.integers(0, 3), st.booleans()), min_size=1, max_size=12
)


def columns(rows):
    """Lay drawn rows out as columns."""
    value, group, failed = zip(*rows, strict=True)
    return torch.tensor(value, dtype=torch.float64), torch.tensor(group), torch.tensor(failed)


def standardised(value_R, group_R, failed_R, singleton="zero"):
    """Relative credit, in deviations."""
    params = {"scale": "std", "statistics": "rows", "epsilon": EPSILON}
    return group_relative(value_R, group_R, failed_R, None, weight=1.0, singleton=singleton, **params)["advantage_R"]


def centred(value_R, group_R, failed_R, singleton="zero"):
    """Relative credit, in units of value."""
    params = {"scale": "none", "statistics": "rows", "epsilon": EPSILON}
    return group_relative(value_R, group_R, failed_R, None, weight=1.0, singleton=singleton, **params)["advantage_R"]


def left_out(value_R, group_R, failed_R, singleton="zero"):
    """Leave-one-out credit."""
    return rloo(value_R, group_R, failed_R, weight=1.0, singleton=singleton)["advantage_R"]


def by_batch(value_R, group_R, failed_R):
    """Relative credit, in deviations of the batch."""
    return batch_standardised(value_R, group_R, failed_R, weight=1.0, epsilon=EPSILON)["advantage_R"]


LEVELS = pytest.mark.parametrize("level", [standardised, centred, left_out, by_batch])


@LEVELS
@given(rows=ROWS, shift=st.integers(-1000, 1000))
def test_shift_invariant(level, rows, shift):
    """Adding a constant to every value changes no credit."""
    value_R, group_R, failed_R = columns(rows)
    torch.testing.assert_close(
        level(value_R + shift, group_R, failed_R), level(value_R, group_R, failed_R), atol=1e-9, rtol=1e-9
    )


@LEVELS
@given(rows=ROWS)
def test_sums_to_zero(level, rows):
    """Credit adds up to nothing in every group, and failures get none."""
    value_R, group_R, failed_R = columns(rows)
    credit_R = level(value_R, group_R, failed_R)
    total = torch.zeros(4, dtype=torch.float64).index_add(0, group_R, credit_R)
    torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-9, rtol=0)
    assert (credit_R[failed_R] == 0).all()


@LEVELS
@given(rows=ROWS, data=st.data())
def test_permutation_equivariant(level, rows, data):
    """Credit follows its row when rows are reordered, and does not care what groups are called."""
    value_R, group_R, failed_R = columns(rows)
    order = torch.tensor(data.draw(st.permutations(range(len(rows)))))
    names = torch.tensor(data.draw(st.permutations([-7, 0, 3, 10**12])))
    torch.testing.assert_close(
        level(value_R[order], names[group_R][order], failed_R[order]),
        level(value_R, group_R, failed_R)[order],
        atol=1e-12,
        rtol=1e-12,
    )


@LEVELS
@given(rows=ROWS)
def test_failed_values_are_never_read(level, rows):
    """What stands in a failed row, NaN included, reaches no credit."""
    value_R, group_R, failed_R = columns(rows)
    unknown_R = torch.where(failed_R, torch.nan, value_R)
    torch.testing.assert_close(level(unknown_R, group_R, failed_R), level(value_R, group_R, failed_R), atol=0, rtol=0)


def oracle(values, failed, singleton):
    """Credit of one group in exact arithmetic: standardised, centred, leave-one-out."""
    kept = [Fraction(v) for v, f in zip(values, failed, strict=True) if not f]
    n, alone = len(kept), len(values) == 1
    mean = sum(kept) / n if n else Fraction(0)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in kept) / (n - 1)) if n > 1 else 0.0
    rows = []
    for value, fell in zip(values, failed, strict=True):
        if fell or (n < 2 and not (alone and singleton == "raw")):
            rows.append((0.0, 0.0, 0.0))
        elif alone:
            rows.append((value / (1 + EPSILON), value, value))
        else:
            relative = Fraction(value) - mean
            rest = Fraction(value) - (sum(kept) - Fraction(value)) / (n - 1)
            rows.append((float(relative) / (deviation + EPSILON), float(relative), float(rest)))
    return rows


@pytest.mark.parametrize("singleton", ["raw", "zero"])
def test_small_groups_exhaustively(singleton):
    """Every pattern of rewards and failures in groups of up to six agrees with exact fractions; ties are exactly 0.

    The rewards are no binary fractions, so a floating mean of equal ones need not equal them.
    """
    values, failures, groups, expected = [], [], [], []
    for size in range(1, 7):
        levels = (0.1, 0.7, 1.1) if size <= 4 else (0.1, 0.7)
        for pattern in itertools.product(levels, repeat=size):
            for failed in itertools.product((False, True), repeat=size):
                groups += [len(expected)] * size
                values += pattern
                failures += failed
                expected.append(oracle(pattern, failed, singleton))
    value_R, group_R = torch.tensor(values, dtype=torch.float64), torch.tensor(groups)
    failed_R = torch.tensor(failures)
    wanted = torch.tensor([row for group in expected for row in group], dtype=torch.float64)
    for i, level in enumerate((standardised, centred, left_out)):
        made_R = level(value_R, group_R, failed_R, singleton)
        torch.testing.assert_close(made_R, wanted[:, i], atol=1e-9, rtol=1e-9)
        assert torch.equal(made_R == 0, wanted[:, i] == 0)

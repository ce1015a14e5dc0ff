"""Running normalisation of a reward level: its numbers by hand, what counts, and what a checkpoint keeps."""

import json
import math
from statistics import mean, stdev

import pytest
import torch

from recipec.runtime.objective.running_normaliser import RunningNormaliser

STEPS = [[1.0, 3.0], [5.0, 7.0, 9.0]]


def fine(values):
    """Return the columns of rows whose episodes did not fail."""
    return torch.zeros(len(values), dtype=torch.bool), torch.tensor(values)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[-(0.5**0.5), 0.5**0.5], [0.0, 2 / 10**0.5, 4 / 10**0.5]]),
        ({"scaled": False}, [[-1.0, 1.0], [0.0, 2.0, 4.0]]),
        ({"centred": False}, [[0.5**0.5, 3 * 0.5**0.5], [5 / 10**0.5, 7 / 10**0.5, 9 / 10**0.5]]),
    ],
    ids=["running", "running_mean", "running_std"],
)
def test_values_of_a_step_are_among_those_that_normalise_it(options, expected):
    """After 1 and 3: mean 2, variance 2. After 5, 7 and 9 too: mean 5, variance 40 / 4."""
    normaliser = RunningNormaliser("quality", **options)
    for values, normalised in zip(STEPS, expected, strict=True):
        made = normaliser(*fine(values))
        assert made["reward_R"].dtype == torch.float64
        assert made["reward_R"].tolist() == pytest.approx(normalised, rel=1e-15)
    assert made["metric/rewards/quality/running_mean"] == 5.0
    assert made["metric/rewards/quality/running_std"] == 10**0.5


def test_the_statistics_are_those_of_all_values():
    """Mean and deviation after many steps are those of the values at once."""
    values = [math.sin(i) * 10 ** (i % 5) for i in range(1, 400)]
    normaliser = RunningNormaliser("quality")
    for start in range(0, len(values), 7):
        normaliser(*fine(values[start : start + 7]))
    assert normaliser.mean == pytest.approx(mean(torch.tensor(values).tolist()), rel=1e-12)
    assert normaliser.deviation == pytest.approx(stdev(torch.tensor(values).tolist()), rel=1e-12)


def test_rows_without_a_value_leave_the_statistics_untouched():
    """NaN, infinities and values of failed episodes are not counted; NaN stays NaN, so that its row fails."""
    normaliser, other = RunningNormaliser("quality"), RunningNormaliser("quality")
    error_R = torch.tensor([False, True, False, False, False])
    made = normaliser(error_R, torch.tensor([1.0, 100.0, math.nan, math.inf, 3.0]))["reward_R"]
    assert normaliser.state() == {"count": 2, "mean": 2.0, "squares": 2.0}
    assert made[[0, 4]].tolist() == other(*fine([1.0, 3.0]))["reward_R"].tolist()
    assert made[2].isnan()
    before = normaliser.state()
    normaliser(torch.ones(2, dtype=torch.bool), torch.tensor([1.0, 2.0]))
    assert normaliser.state() == before


@pytest.mark.parametrize("value", [0.1, -1 / 3, 1e300])
def test_equal_values_are_not_divided(value):
    """Without a deviation only the mean is subtracted: no noise of rounding is blown up to a signal."""
    centred, scaled = RunningNormaliser("quality"), RunningNormaliser("quality", centred=False)
    for size in (1, 3, 10):
        values = torch.full((size,), value, dtype=torch.float64)
        error_R = torch.zeros(size, dtype=torch.bool)
        assert centred(error_R, values)["reward_R"].tolist() == [0.0] * size
        assert scaled(error_R, values)["reward_R"].tolist() == [value] * size


def test_a_state_goes_through_a_checkpoint_to_the_bit():
    """State that was written as JSON continues to the bits of one that was not."""
    whole, part = RunningNormaliser("quality"), RunningNormaliser("quality")
    values = [[1 / 3, 0.1, 7e-5], [2 / 7, 1e9], [0.3, 1.1]]
    for step in values:
        again = RunningNormaliser("quality")
        again.load(json.loads(json.dumps(part.state())))
        part = again
        assert torch.equal(whole(*fine(step))["reward_R"], part(*fine(step))["reward_R"])
    assert whole.state() == part.state()

"""Credit: failures, lone rows, episodes counted once."""

import pytest
import torch

from recipec.runtime.objective.advantage import (
    _first_rows,
    batch_standardised,
    group_relative,
    rloo,
    signed,
    token_relative,
)

NAN = float("nan")


def relative(value, group, failed=None, episode_id=None, **params):
    """Centred credit as a list, unless parameters say otherwise."""
    value_R = torch.tensor(value, dtype=torch.float64)
    failed_R = torch.zeros(len(value), dtype=torch.bool) if failed is None else torch.tensor(failed)
    episodes_R = None if episode_id is None else torch.tensor(episode_id)
    params = {
        "weight": 1.0, "scale": "none", "singleton": "zero", "statistics": "rows", "epsilon": 1e-6, **params,
    }  # fmt: skip
    return group_relative(value_R, torch.tensor(group), failed_R, episodes_R, **params)["advantage_R"].tolist()


def test_failed_rows_leave_the_baseline():
    """The mean is that of the rows that could be scored; the others get nothing."""
    assert relative([1.0, NAN, 0.0], [0, 0, 0], [False, True, False]) == [0.5, 0.0, -0.5]


def test_group_shrunk_to_one_gets_nothing():
    """A row whose fellows all failed has no baseline, even where a row that was always alone keeps its value."""
    assert relative([3.0, NAN, 5.0], [0, 0, 1], [False, True, False], singleton="raw") == [0.0, 0.0, 5.0]
    value_R, group_R = torch.tensor([3.0, NAN, 5.0]), torch.tensor([0, 0, 1])
    made = rloo(value_R, group_R, value_R.isnan(), weight=1.0, singleton="raw")
    assert made["advantage_R"].tolist() == [0.0, 0.0, 5.0]


def test_row_alone():
    """A row alone in its group gets its value or nothing, as the recipe says."""
    assert relative([3.0], [0], singleton="raw") == [3.0]
    assert relative([3.0], [0], singleton="zero") == [0.0]


def test_lone_row_that_failed_gets_nothing():
    """There is no value to keep."""
    assert relative([NAN], [0], [True], singleton="raw") == [0.0]


def test_equal_values_get_exactly_nothing():
    """The mean of seven times 0.1 is not 0.1 in floating point; the credit is 0 all the same."""
    assert sum([0.1] * 7) / 7 != 0.1
    assert relative([0.1] * 7, [0] * 7, scale="std", epsilon=0.0) == [0.0] * 7


def test_near_ties_are_no_ties():
    """Values that differ by less than epsilon still differ."""
    assert relative([0.0, 1e-9], [0, 0]) == [-5e-10, 5e-10]


def test_episode_counts_once():
    """An episode of two steps weighs as much as one of one; each row is compared with that mean."""
    rows = relative([1.0, 1.0, 1.0, 0.0], [0] * 4)
    once = relative([1.0, 1.0, 1.0, 0.0], [0] * 4, episode_id=[5, 5, 5, 9], statistics="trajectories")
    assert rows == [0.25, 0.25, 0.25, -0.75]
    assert once == [0.5, 0.5, 0.5, -0.5]


def test_episode_counts_by_its_first_row_that_can_be_scored():
    """The first row speaks for its episode; where it failed, the next one does."""
    arguments = {"group": [0] * 3, "episode_id": [5, 5, 9], "statistics": "trajectories"}
    assert relative([4.0, 2.0, 0.0], **arguments) == [2.0, 0.0, -2.0]
    assert relative([4.0, 2.0, 0.0], failed=[True, False, False], **arguments) == [0.0, 1.0, -1.0]


def test_group_of_one_episode_is_alone():
    """Counting episodes, the steps of a single one have nobody to be compared with."""
    arguments = {"group": [0, 0], "episode_id": [5, 5], "statistics": "trajectories"}
    assert relative([1.0, 2.0], singleton="raw", **arguments) == [1.0, 2.0]
    assert relative([1.0, 2.0], singleton="zero", **arguments) == [0.0, 0.0]


def test_deviation_is_the_sample_one():
    """Two values a distance d apart are d / sqrt(2) of a deviation apart from their mean (ddof 1)."""
    assert relative([0.0, 2.0], [0, 0], scale="std", epsilon=0.0) == pytest.approx([-(0.5**0.5), 0.5**0.5])


def test_weight_scales_a_level():
    """The factor of a level multiplies its credit, a lone row's included."""
    assert relative([0.0, 1.0, 7.0], [0, 0, 1], weight=-2.0, singleton="raw") == [1.0, -1.0, -14.0]


def test_signed_needs_no_group():
    """Values above the threshold are right, the threshold itself is not; failures get nothing."""
    value_R = torch.tensor([0.5, 0.6, NAN])
    made = signed(value_R, value_R.isnan(), weight=2.0, threshold=0.5, positive=1.0, negative=-0.5)
    assert made["advantage_R"].tolist() == [-1.0, 2.0, 0.0]


def test_batch_deviation_is_that_of_values():
    """Groups are centred, then divided by the deviation of all values; groups of equals get exactly 0."""
    value_R, group_R = torch.tensor([0.0, 1.0, 0.1, 0.1, 0.1]), torch.tensor([0, 0, 1, 1, 1])
    made = batch_standardised(value_R, group_R, value_R.isnan(), weight=1.0, epsilon=0.0)["advantage_R"]
    std = float(value_R.double().std())
    assert made.tolist() == pytest.approx([-0.5 / std, 0.5 / std, 0.0, 0.0, 0.0])
    assert (made[2:] == 0).all()


def test_epsilon_is_added_to_the_deviation_of_the_batch():
    """Centred rewards of 0.5 over a deviation of 0.5 and an epsilon of 0.5."""
    value_R = torch.tensor([1.0, 0.0, 1.0, 1.0])
    made = batch_standardised(value_R, torch.tensor([0, 0, 1, 1]), value_R.isnan(), weight=1.0, epsilon=0.5)
    torch.testing.assert_close(made["advantage_R"], torch.tensor([0.5, -0.5, 0.0, 0.0], dtype=torch.float64))


def test_the_first_row_of_an_episode_is_that_of_its_first_step():
    """Wherever it is among the rows; the next one that is ok where it failed."""
    episode_id_R, step_R = torch.tensor([0, 0, 0, 1]), torch.tensor([2, 0, 1, 0])
    assert _first_rows(episode_id_R, torch.ones(4, dtype=torch.bool), step_R).tolist() == [False, True, False, True]
    ok_R = torch.tensor([True, False, True, True])
    assert _first_rows(episode_id_R, ok_R, step_R).tolist() == [False, False, True, True]


def test_credit_over_the_mean_of_the_group_is_that_of_maxrl():
    """Numbers of SkyRL's `compute_maxrl_advantage`; without a positive mean a group has no credit."""
    value_R = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.75, 0.1, 0.0, 0.0, 0.5, -1.0, 0.5], dtype=torch.float64)
    group_R = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4])
    knobs = {"weight": 1.0, "singleton": "raw", "statistics": "rows", "epsilon": 1e-6}
    made = group_relative(value_R, group_R, value_R.isnan(), None, scale="mean", **knobs)["advantage_R"]
    theirs = [0.999998000004, -0.999998000004, 0.999998000004, -0.999998000004, 0.7647040830492164, -0.7647040830492163]
    assert made.tolist() == pytest.approx([*theirs, 0.0, 0.0, 0.5, 0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("scale", "singleton", "credit"), [("none", "raw", 3.0), ("std", "raw", 2.0), ("none", "zero", 0.0)]
)
def test_a_token_alone(scale, singleton, credit):
    """A pool of one token has no mean of others: its value over 1 + epsilon, its value, or nothing."""
    attend_RT = torch.tensor([[True, True]])
    made = token_relative(
        torch.tensor([3.0]), torch.tensor([0]), torch.tensor([False]), attend_RT, torch.tensor([[False, True]]),
        weight=1.0, scale=scale, singleton=singleton, epsilon=0.5,
    )  # fmt: skip
    assert made["advantage_RT"].tolist() == [[0.0, credit]]

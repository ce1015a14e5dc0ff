"""Charts of the report: ticks, logarithmic axes, peaks, smoothed curves, values that a script shows, meanings."""

import pytest

from recipec.report.chart import axis_of, chart, thinned
from recipec.report.meanings import meaning
from recipec.report.summary import curves


@pytest.mark.parametrize("low", [-3.0, 0.0, 1e-9, 0.9, 12345.0])
@pytest.mark.parametrize("span", [1e-6, 0.3, 1.0, 7.0, 2e6])
def test_ticks_are_round_and_cover_the_values(low, span):
    """Four to seven ticks from below the lowest to above the highest value, at equal distances."""
    axis = axis_of([low, low + span])
    assert 4 <= len(axis.ticks) <= 7
    assert axis.ticks[0] <= low + 1e-6 * span
    assert low + span <= axis.ticks[-1] + 1e-6 * span
    distances = [after - before for before, after in zip(axis.ticks, axis.ticks[1:], strict=False)]
    assert max(distances) == pytest.approx(min(distances), rel=1e-3)


def test_an_axis_is_logarithmic_where_a_few_values_are_far_larger():
    """A norm with a peak of a thousand times is; a count that grows evenly is not, nor what is not above zero."""
    assert axis_of([1.0] * 50 + [1000.0]).logarithmic
    assert not axis_of([float(i) for i in range(1, 2000)]).logarithmic
    assert not axis_of([0.0] * 50 + [1000.0]).logarithmic


def test_a_peak_is_never_left_out():
    """Of 5,000 points at most 400 are drawn, the single highest and both ends among them."""
    points = [(i, 1.0) for i in range(5000)]
    points[1234] = (1234, 9.0)
    kept = thinned(points)
    assert len(kept) <= 400
    assert {points[0], points[1234], points[-1]} <= set(kept)


def test_values_are_there_for_a_script_and_for_a_reader():
    """Each curve has its values in the order of its points; a noisy one has a smoothed curve as well."""
    noisy = [(i, float(i % 2)) for i in range(1, 101)]
    drawn = chart("reward", {"": noisy})
    raw, smooth = drawn["lines"]
    assert (raw["smooth"], smooth["smooth"]) == (False, True)
    assert raw["values"].split()[:2] == ["1,1", "2,0"]
    assert len(raw["values"].split()) == len(raw["points"].split()) == 100
    averages = [float(pair.partition(",")[2]) for pair in smooth["values"].split()]
    assert max(averages[5:-5]) - min(averages[5:-5]) < 0.2
    assert [label for _, label in drawn["rows"]] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    assert [label for _, label in drawn["columns"]] == ["20", "40", "60", "80", "100"]


def test_values_that_no_axis_can_have_are_left_out():
    """Values that are not finite, or beyond 1e100, do not hide the others; an equal metric is listed once."""
    rows = [{"step": i, "loss": value, "kl": 0.5 * i, "approx_kl": 0.5 * i}
            for i, value in enumerate((1.0, float("nan"), float("inf"), 10**400, 3.0), 1)]  # fmt: skip
    (group,) = curves(rows)
    assert [one["title"] for one in group["charts"]] == ["loss", "kl"]
    assert group["charts"][0]["lines"][0]["values"] == "1,1 5,3"
    assert [one["text"] for one in group["flat"]] == ["approx_kl, the same as kl"]


def test_meanings_are_those_of_the_documentation():
    """Of several metrics in a row each has its part; levels and numbers of answers are filled in."""
    assert meaning("reward_std") == "mean over groups of the standard deviation within a group (reward units)"
    assert meaning("rewards/right/mean").startswith("one level of reward")
    assert meaning("eval/dev/pass@8").startswith("unbiased estimate")
    assert meaning("my_metric") == ""

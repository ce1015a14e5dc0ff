"""The sigmoid of held-out reward over compute: parameters of synthetic data, refusals, and where the report has it."""

import json
import time

import numpy as np
import pytest

from recipec.report.page import write
from recipec.report.scaling_law import ScalingLaw, fit

TRUE = ScalingLaw(start=0.1, ceiling=0.7, exponent=1.5, middle=5.0)
COMPUTE = [0.0, *(0.5 * 1.3**i for i in range(22))]


def noisy(law: ScalingLaw, seed: int, noise: float = 0.01) -> list[tuple[float, float]]:
    """Draw evaluations around a law."""
    draw = np.random.default_rng(seed)
    return [(compute, law.at(compute) + draw.normal(0, noise)) for compute in COMPUTE]


@pytest.mark.parametrize("exponent", [0.8, 1.5, 4.0])
def test_parameters_are_recovered(exponent):
    """Without noise the parameters come out to a thousandth, and the fit takes well below a second."""
    law = ScalingLaw(0.1, 0.7, exponent, 5.0)
    began = time.perf_counter()
    found = fit([(compute, law.at(compute)) for compute in COMPUTE])
    assert time.perf_counter() - began < 3
    assert isinstance(found, ScalingLaw)
    wanted = (law.start, law.ceiling, law.exponent, law.middle)
    assert (found.start, found.ceiling, found.exponent, found.middle) == pytest.approx(wanted, rel=2e-3)


def test_intervals_cover_the_truth():
    """Of 40 noisy runs, the 95% intervals hold the true value in at least 32 (of 200: in 185 or more)."""
    held = dict.fromkeys(("ceiling", "exponent", "middle"), 0)
    for seed in range(40):
        found = fit(noisy(TRUE, seed))
        assert isinstance(found, ScalingLaw), found
        for name in held:
            low, high = found.intervals[name]
            held[name] += low <= getattr(TRUE, name) <= high
        low, high = found.intervals["ceiling"]
        assert high - low < 0.15
    assert min(held.values()) >= 32


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (noisy(TRUE, 0)[:7], "7 evaluations are fewer than 8"),
        ([(compute, 0.5) for compute in COMPUTE], "does not rise"),
        ([(compute, 0.5 - 0.01 * compute) for compute in COMPUTE], "does not rise"),
        ([(compute, 0.01 * compute) for compute in COMPUTE[:14]], "not bent"),
        (noisy(ScalingLaw(0.1, 0.13, 1.5, 5.0), 3, noise=0.2), "no curve is fitted"),
        (noisy(TRUE, 1, noise=0.03)[:10], "no curve is fitted"),
    ],
    ids=["few", "flat", "falling", "straight", "noise", "begun"],
)
def test_data_that_cannot_carry_it(points, reason):
    """Too few evaluations, no rise, a line, noise, and a rise that has only begun are refused with the reason."""
    found = fit(points)
    assert isinstance(found, str), found
    assert reason in found


def test_the_report_has_it(tmp_path):
    """The page of a run names ceiling and interval of every accuracy and reward of an rl stage, over device-hours."""
    stage = tmp_path / "stages/explore"
    stage.mkdir(parents=True)
    lines = [{"step": 0, "eval/dev/accuracy": 0.1}]
    for step in range(1, 41):
        line = {"step": step, "seconds/step": 900.0}
        if step % 2 == 0:
            line["eval/dev/accuracy"] = TRUE.at(step / 2)
        lines.append(line)
    (stage / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    about = {"name": "law", "seed": 0, "versions": {}}
    graph = {"stages": [{"name": "explore", "kind": "rl"}], "machine": {"devices": 2}, "evaluate": {}}
    (tmp_path / "run.json").write_text(json.dumps(about))
    (tmp_path / "graph.json").write_text(json.dumps(graph))
    page = write(tmp_path).read_text()
    assert "dev/accuracy levels off at 0.700" in page
    assert "half of the rise is at 5 device-hours" in page

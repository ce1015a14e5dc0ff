"""Likelihood of held-out examples, and evaluations and checkpoints counted in passes over the data."""

import json

import pytest
from support.small_recipes import SFT, rows

DATA = rows(*({"prompt": f"p{i}", "completion": "abab"} for i in range(20)))
RECIPE = (
    SFT.replace("{path: a.jsonl}", "{path: a.jsonl, val_share: 0.2}")
    .replace("{steps: 2, rows_per_step: 2}", "{epochs: 2, rows_per_step: 4, saves_per_epoch: 2, keep: 9}")
    .replace("1.0e-3", "1.0e-2")
    + """\
evaluate:
  held:
    data: {path: a.jsonl, val_share: 0.2, part: val}
    metrics: [loss]
    per_epoch: 2
"""
)


def test_loss_of_the_rows_that_are_held_out(folder):
    """It falls, twice per pass over the data, without writing an answer and without a reward; checkpoints follow."""
    ended = folder.run(RECIPE, a__jsonl=DATA)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/learn"
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    found = {line["step"]: line["eval/held/loss"] for line in lines if "eval/held/loss" in line}
    assert list(found) == [0, 2, 4, 6, 8]
    assert found[0] > found[4] > found[8]
    assert found[0] == pytest.approx(4.6, abs=0.3)  # a new model knows nothing of its about 100 tokens
    assert len(list((stage / "checkpoints").iterdir())) == 4
    assert not list((stage / "samples").glob("*")) if (stage / "samples").exists() else True

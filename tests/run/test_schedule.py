"""The schedule of a stage whose rows are the steps of episodes: how many updates there will be is not known before."""

import pytest
from support.small_recipes import Folder
from test_episodes import DATA, STEP, lines

from recipec.spec.environment import Textworld


@pytest.mark.parametrize(("warmup", "rising"), [("", 0), (", warmup_ratio: 0.5", 3)])
def test_a_schedule_ends_with_the_stage(tmp_path, monkeypatch, capsys, warmup, rising):
    """However many updates the turns of its episodes make, the learning rate falls through the whole stage."""
    monkeypatch.setattr(Textworld, "impl", "support.corridor:Corridor")
    recipe = STEP.replace("{learning_rate: 1.0e-2}", f"{{learning_rate: 1.0e-2, schedule: linear{warmup}}}")
    recipe = recipe.replace(
        "budget: {steps: 3, prompts", "budget: {steps: 6, rows_per_update: 4, shuffle_rows: true, prompts"
    )
    ended = Folder(tmp_path, monkeypatch, capsys).run(recipe, "--out", "o", a__jsonl=DATA)
    assert ended.code == 0, ended.err
    rates = [line["learning_rate"] for line in lines(tmp_path / "o/stages/explore/metrics.jsonl") if line.get("step")]
    assert rates[rising:] == sorted(rates[rising:], reverse=True)
    assert rates[:rising] == sorted(rates[:rising])
    assert 0 < rates[-1] < 0.5e-2 < max(rates)
    assert len(set(rates)) == 6

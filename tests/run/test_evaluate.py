"""Evaluations that were added after a run had ended, and evaluations of another model."""

import json

import pytest
from support.small_recipes import AGAIN, ROWS, SFT

HELD_OUT = """\
evaluate:
  held_out:
    data: {path: a.jsonl}
    reward: {right: {type: exact_match, correct: 2.0}}
    sampler: {max_completion_length: 4}
    metrics: [METRICS]
"""
LORA = SFT.replace("      type: causal_lm\n", "      type: causal_lm\n      lora: {r: 2}\n")


def held_out(metrics, recipe=SFT):
    """Add an evaluation to a recipe."""
    return recipe.replace("stages:", HELD_OUT.replace("METRICS", metrics) + "stages:")


@pytest.mark.parametrize("recipe", [SFT, LORA])
def test_an_evaluation_is_added_to_a_finished_run(folder, recipe):
    """The metric appears in the table next to those of the run, with the values of a run that had it from the start."""
    assert folder.run(held_out("accuracy", recipe), a__jsonl=ROWS).code == 0
    whole = held_out("accuracy, reward", recipe)
    assert "held_out/reward" in folder.run(whole).err  # RC921
    found = folder.call("evaluate", "r.yaml")
    assert found.code == 0, found.err
    assert "held_out/reward" in found.out
    again = folder.run(whole).err
    assert "RC921" not in again
    assert "RC879" not in again
    assert folder.run(whole, "--out", "other").code == 0
    added, first = (json.loads((folder.path / run / "results.json").read_text()) for run in ("runs/small", "other"))
    assert added["rows"][-1]["values"] == first["rows"][-1]["values"]
    report = (folder.path / "runs/small/report.html").read_text().replace("<wbr>", "")
    assert "held_out/reward" in report


def test_an_evaluation_is_of_the_last_step_where_metrics_are_lost(folder):
    """The step is that of the stage's manifest; what is added later does not count as lost metrics."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    (folder.path / "runs/small/stages/learn/metrics.jsonl").unlink()
    assert folder.run(held_out("accuracy"), "--quiet").err.count("warning[RC879]") == 1
    assert folder.call("evaluate", "r.yaml").code == 0
    rows = json.loads((folder.path / "runs/small/results.json").read_text())["rows"]
    assert [(row["step"], row["when"]) for row in rows] == [(2, "after learn")]


def test_a_model_is_evaluated(folder):
    """A model of another run is evaluated as the recipe says, and nothing is written."""
    folder.write(b__jsonl=ROWS)
    assert folder.run(held_out("accuracy", SFT + AGAIN), a__jsonl=ROWS).code == 0
    expected = json.loads((folder.path / "runs/small/results.json").read_text())["rows"][-1]["values"]
    before = sorted(folder.path.rglob("*"))
    found = folder.call("evaluate", "r.yaml", "--model", "runs/small/model", "--format", "json")
    assert json.loads(found.out) == expected
    assert sorted(folder.path.rglob("*")) == before
    assert folder.call("evaluate", "r.yaml", "--out", "none").first == "RC936"
    assert folder.call("evaluate", "r.yaml", "--model", "./nothing").first == "RC721"
    assert "of a run, give its recipe: `runs/small/recipe.yaml`" in folder.call("evaluate", "runs/small").err
    assert "`recipec evaluate RECIPE --model runs/small/model`" in folder.call("evaluate", "runs/small/model").err

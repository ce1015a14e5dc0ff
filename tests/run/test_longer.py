"""A finished stage with a raised budget goes on where its schedule allows it, and ends as if it had always had it."""

import json

import pytest
from support.small_recipes import ROWS, SFT

from recipec.host.artifacts import hash_file
from recipec.host.jsonl import read_lines

MODEL_FILE = "stages/learn/policy/model.safetensors"
SECOND = """\
  more:
    kind: sft
    from: learn
    data: {path: a.jsonl}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 1, rows_per_step: 2}
"""


def recipe(steps: int, optimizer: str = "", budget: str = "save_every: 1, keep: 9") -> str:
    """Return an SFT recipe of so many steps."""
    text = SFT.replace("1.0e-3}", f"1.0e-3{optimizer}}}", 1)
    return text.replace("steps: 2", f"steps: {steps}, {budget}")


@pytest.mark.parametrize(
    ("optimizer", "from_step"),
    [("", 4), (", warmup_updates: 6", 4), (", schedule: wsd, decay_ratio: 0.5", 2), (", schedule: cosine", None),
     (", schedule: wsd, warmup_ratio: 0.5", None), (", schedule: linear, warmup_updates: 3", 3)],
)  # fmt: skip
def test_more_steps(folder, optimizer, from_step):
    """Weights and metrics are to the bit those of a run with eight steps; a schedule that has fallen is RC978."""
    assert folder.run(recipe(8, optimizer), "--out", "whole", a__jsonl=ROWS).code == 0
    assert folder.run(recipe(4, optimizer), "--out", "short").code == 0
    planned = folder.call("plan", "r.yaml", "--set", "stages.learn.budget.steps=8", "--out", "short").out
    assert ("goes on from a checkpoint" in planned) == (from_step is not None), planned
    ended = folder.run(recipe(8, optimizer), "--out", "short")
    if from_step is None:
        assert (ended.code, ended.first) == (1, "RC978")
        assert "r.yaml:" in ended.err
        assert "optimizer." in ended.err
        ended = folder.run(recipe(8, optimizer), "--out", "short", "--replace")
        assert "it begins again" in ended.err
    else:
        assert f"goes on to 8 steps from its checkpoint step-{from_step:06d}" in ended.err
    assert ended.code == 0, ended.err
    assert hash_file(folder.path / "short" / MODEL_FILE) == hash_file(folder.path / "whole" / MODEL_FILE)
    losses = [
        [(line["step"], line["loss"]) for line in read_lines(folder.path / name / "stages/learn/metrics.jsonl")]
        for name in ("short", "whole")
    ]
    assert losses[0] == losses[1]
    (aside,) = (folder.path / "short/stages/learn").glob("policy@*")
    assert (aside / "model.safetensors").exists()
    again = folder.run(recipe(8, optimizer), "--out", "short")
    assert "finished before, skipped" in again.err


def test_more_epochs(folder):
    """Passes over the data may be raised as well."""
    epochs = {n: recipe(1).replace("steps: 1", f"epochs: {n}") for n in (1, 3)}
    assert folder.run(epochs[3], "--out", "whole", a__jsonl=ROWS).code == 0
    assert folder.run(epochs[1], "--out", "short").code == 0
    assert folder.run(epochs[3], "--out", "short").code == 0
    assert hash_file(folder.path / "short" / MODEL_FILE) == hash_file(folder.path / "whole" / MODEL_FILE)


def test_what_else_is_refused(folder):
    """Fewer steps, or another change with them, are RC760; a stage without the checkpoint that it needs is RC978."""
    assert folder.run(recipe(4), a__jsonl=ROWS).code == 0
    assert folder.run(recipe(3)).first == "RC760"
    assert folder.run(recipe(8).replace("1.0e-3", "2.0e-3")).first == "RC760"
    assert folder.run(recipe(8), a__jsonl=ROWS + ROWS).first == "RC760"
    wsd = ", schedule: wsd, decay_ratio: 0.9"
    assert folder.run(recipe(4, wsd, "save_every: 4"), "--out", "late", a__jsonl=ROWS).code == 0
    ended = folder.run(recipe(8, wsd, "save_every: 4"), "--out", "late")
    assert ended.first == "RC978"
    assert "no checkpoint from before its learning rate fell" in ended.err


def test_a_later_stage_is_not_trained_again_unasked(folder):
    """RC978 names the stage that was trained from it, before a step; with --replace both go on and run."""
    assert folder.run(recipe(2) + SECOND, a__jsonl=ROWS).code == 0
    policy = folder.path / "runs/small/stages/more/policy/model.safetensors"
    before = hash_file(policy)
    ended = folder.run(recipe(4) + SECOND)
    assert (ended.code, ended.first) == (1, "RC978")
    assert "stage `more` was trained from it" in ended.err
    assert hash_file(policy) == before
    ended = folder.run(recipe(4) + SECOND, "--replace")
    assert ended.code == 0, ended.err
    assert "goes on to 4 steps from its checkpoint step-000002" in ended.err
    assert hash_file(policy) != before


def test_a_run_that_was_killed_after_its_checkpoints_were_given_away(folder):
    """The folder says the new digest while `graph.json` is still the old one: the next run goes on all the same."""
    assert folder.run(recipe(4), a__jsonl=ROWS).code == 0
    graph = folder.path / "runs/small/graph.json"
    text = graph.read_text()
    assert folder.run(recipe(8)).code == 0
    graph.write_text(text)
    assert folder.run(recipe(8)).code == 0
    steps = json.loads(graph.read_text())["stages"][0]["settings"]["budget"]["steps"]
    assert steps == 8

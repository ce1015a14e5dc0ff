"""Several values of a recipe's keys, one run each, and their comparison."""

import json

import pytest
from support.small_recipes import ROWS, SFT

from recipec.diagnostics.model import RecipeError
from recipec.report.seed_intervals import over_seeds
from recipec.run.sweep import members

HELD_OUT = "evaluate: {held_out: {data: {path: a.jsonl}, metrics: [loss]}}\n"
EACH = ("--each", "seed=0,1", "--each", "stages.learn.data.path=a.jsonl,b.jsonl")


@pytest.mark.slow
def test_one_that_fails_does_not_stop_the_others(folder):
    """Of four runs two fail for a missing file (exit 4); the others are compared over seeds, and skipped later."""
    folder.write(r__yaml=SFT + HELD_OUT, a__jsonl=ROWS)
    ended = folder.call("run", "r.yaml", *EACH)
    assert ended.code == 4, ended.err
    home = folder.path / "runs/small-sweep"
    about = json.loads((home / "sweep.json").read_text())
    assert about["finished"] == ["seed-0_path-a.jsonl", "seed-1_path-a.jsonl"]
    assert [found[0][:5] for found in about["failed"].values()] == ["RC700", "RC700"]
    assert ended.err.count("error[RC700]") == 2
    assert (home / "seed-1_path-a.jsonl/model/config.json").exists()
    values = [json.loads((home / name / "results.json").read_text())["rows"][-1] for name in about["finished"]]
    first, second = (row["values"]["held_out/loss"] for row in values)
    assert first != second
    line = next(line for line in ended.out.splitlines() if line.startswith("all runs (2 seeds)"))
    mean, half = (first + second) / 2, 12.706 * abs(first - second) / 2
    shown = f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})"
    assert line.endswith(shown)
    assert shown in (home / "comparison.html").read_text()
    models = [(home / name / "model/model.safetensors").stat().st_mtime_ns for name in about["finished"]]
    again = folder.call("run", "r.yaml", "--each", "seed=0,1", "--each", "stages.learn.data.path=a.jsonl")
    assert again.code == 0, again.err
    assert [(home / n / "model/model.safetensors").stat().st_mtime_ns for n in about["finished"]] == models


def test_every_member_is_compiled_first(folder):
    """A value that is wrong in the last run is reported before the first run begins."""
    ended = folder.run(SFT, "--each", "stages.learn.optimizer.learning_rate=1e-3,high", a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC132")
    assert not (folder.path / "runs").exists()


@pytest.mark.parametrize("text", ["seed", "=1", "seed=", "seed=0,,1", "seed=0,0"])
def test_what_is_no_key_with_values(text):
    """RC974 quotes the argument."""
    with pytest.raises(RecipeError) as refused:
        members([text])
    assert [(one.code, f"--each {text}`" in one.message) for one in refused.value.diagnostics] == [("RC974", True)]


def test_names_of_runs():
    """Directories are named by the shortest ends of keys that differ, and by values without special characters."""
    names = [one.name for one in members(["stages.a.loss.beta=0.1,0", "stages.b.loss.beta={x: [1, 2]},org/m"])]
    assert names == [
        "a.loss.beta-0.1_b.loss.beta-x-1-2", "a.loss.beta-0.1_b.loss.beta-org-m",
        "a.loss.beta-0_b.loss.beta-x-1-2", "a.loss.beta-0_b.loss.beta-org-m",
    ]  # fmt: skip
    assert [one.name for one in members(["name=a/b,a:b"])] == ["name-a-b", "name-a-b_2"]
    with pytest.raises(RecipeError, match="RC974"):
        members(["seed=0", "seed=1"])


def test_means_are_of_runs_that_differ_in_the_seed():
    """Each learning rate has its own mean; one with a single seed has none."""
    runs = [
        {"values": {"seed": s, "rate": r, "path": "a"}, "last": {"dev/accuracy": v}}
        for s, r, v in (("0", "1", 0.25), ("1", "1", 0.75), ("0", "3", 0.5))
    ]
    ((said, means),) = over_seeds(runs)
    assert said == "rate=1"
    assert (means["dev/accuracy"].count, means["dev/accuracy"].mean) == (2, 0.5)
    assert means["dev/accuracy"].half == pytest.approx(12.706 * 0.25)
    assert means["dev/accuracy"].text() == "0.500 (0.000 to 1.000)"

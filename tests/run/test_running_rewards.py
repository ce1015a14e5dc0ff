"""Rewards that are normalised by all their values so far: in runs, after every stop, over ranks and tries."""

import json
import os
import signal
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from support.ranks import difference, journal, ran_forked, ran_here, sampled
from support.small_recipes import MODEL, Folder, rows

from recipec.compile import compile_recipe
from recipec.graph import Loop
from recipec.runtime.training.local_engine import LocalEngine

ROWS = rows(*({"prompt": f"p{i}", "answer": i} for i in range(12)))
OWN = """\
def score(prompts, completions, answer, **columns):
    return [None if n % 7 == 3 else len(c) * a / 3 for n, (c, a) in enumerate(zip(completions, answer))]
"""
RECIPE = f"""\
recipec: 1
name: small
use: [./rewards.py]
machine: {{device: cpu, timeout: 60}}
stages:
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl}}
    sampler: {{num_generations: 3, max_completion_length: 6FILTER}}
    reward:
      own: {{type: function, name: score, normalise: running, clip: [-1.5, 1.5], weight: 2.0}}
      early: {{type: regex_format, pattern: "[ -n].*", normalise: running_std, shift: 0.25}}
      plain: {{type: regex_format, pattern: "[a-z].*"}}
    advantage: {{credit: {{type: reinforce}}}}
    loss: {{type: clipped}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 4, prompts_per_step: 4, updates_per_step: 2, microbatch_tokens: 48, save_every: 1, keep: 9}}
"""
USE = ("--use", "./rewards.py")


def recipe(group_filter: str = "") -> str:
    """Fill the recipe in."""
    return RECIPE.replace("FILTER", group_filter)


def steps(stage: Path) -> list[list[dict[str, Any]]]:
    """Rows of each step."""
    files = sorted((stage / "samples").glob("step-*.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def test_each_step_is_normalised_by_all_rewards_so_far(folder: Any) -> None:
    """The total is made of the recorded levels, normalised before shift, bounds and weight; NaN adds nothing."""
    assert isinstance(folder, Folder)
    ended = folder.run(recipe(), *USE, a__jsonl=ROWS, rewards__py=OWN)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/explore"
    so_far: dict[str, list[float]] = {"own": [], "early": []}
    for found, metrics in zip(steps(stage), journal(folder.path / "runs/small", "explore"), strict=True):
        assert metrics["failed_rows"] == 0
        for level, values in so_far.items():
            values += [row["rewards"][level] for row in found if row["rewards"][level] is not None]
            assert metrics[f"rewards/{level}/running_mean"] == pytest.approx(mean(values), rel=1e-12)
            assert metrics[f"rewards/{level}/running_std"] == pytest.approx(stdev(values), rel=1e-12)
        own, early = mean(so_far["own"]), stdev(so_far["early"])
        for row in found:
            total = row["rewards"]["early"] / early + 0.25 + row["rewards"]["plain"]
            if (value := row["rewards"]["own"]) is not None:
                total += 2.0 * max(-1.5, min(1.5, (value - own) / stdev(so_far["own"])))
            assert row["reward"] == pytest.approx(total, rel=1e-9)
    assert len(so_far["own"]) < len(so_far["early"]) == 48


def test_evaluations_have_rewards_as_they_are(folder: Any) -> None:
    """A held-out reward is the weighted level itself, without a shift and bounds of another scale."""
    assert isinstance(folder, Folder)
    evaluated = "evaluate:\n  dev: {data: {path: a.jsonl}, sampler: {max_completion_length: 6}, metrics: [reward]}\n"
    text = (
        recipe().replace("early: {", "early: {clip: [-0.5, 0.5], weight: 3.0, ").replace("None if n % 7 == 3 else ", "")
    )
    ended = folder.run(
        f"{text}{evaluated}", *USE, a__jsonl=ROWS, rewards__py=OWN.replace("None if n % 7 == 3 else ", "")
    )
    assert ended.code == 0, ended.err
    (path,) = (folder.path / "runs/small/stages/explore/samples").glob("eval-dev-000000.jsonl")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["rewards"]["early"] for row in found} <= {0.0, 3.0}
    assert max(row["rewards"]["own"] for row in found) > 3.0
    assert all(row["reward"] == pytest.approx(sum(row["rewards"].values())) for row in found)


def test_credit_of_recorded_rows_is_that_of_the_run(folder: Any) -> None:
    """The recorded total is the normalised one, so that `credit` finds the advantages without the statistics."""
    assert isinstance(folder, Folder)
    assert folder.run(recipe(), *USE, a__jsonl=ROWS, rewards__py=OWN).code == 0
    ended = folder.call("credit", "r.yaml", "runs/small/stages/explore/samples", "--format", "json")
    assert ended.code == 0, ended.err
    credited = [json.loads(line)["advantage"] for line in ended.out.splitlines()]
    recorded = [row["advantage"] for step in steps(folder.path / "runs/small/stages/explore") for row in step]
    assert credited == pytest.approx(recorded, rel=1e-6)


def test_a_run_that_was_stopped_at_any_step_ends_with_the_same_bits(folder: Any, monkeypatch: Any) -> None:
    """The statistics are in checkpoints: weights, rewards and metrics are those of a run that was not stopped."""
    assert isinstance(folder, Folder)
    assert folder.run(recipe(), "--out", "whole", *USE, a__jsonl=ROWS, rewards__py=OWN).code == 0
    update = LocalEngine.update
    for stop in (1, 2, 3):
        count = [0]

        def struck(*args: Any, last: int = 2 * stop, count: list[int] = count, **named: Any) -> dict[str, float]:
            count[0] += 1
            if count[0] == last:
                os.kill(os.getpid(), signal.SIGTERM)
            return update(*args, **named)

        monkeypatch.setattr(LocalEngine, "update", struck)
        assert folder.call("run", "r.yaml", "--out", f"part{stop}", *USE).code == 75
        monkeypatch.setattr(LocalEngine, "update", update)
        assert folder.call("run", "r.yaml", "--out", f"part{stop}", *USE).code == 0
        assert sampled(folder.path / f"part{stop}") == sampled(folder.path / "whole")
        assert journal(folder.path / f"part{stop}", "explore") == journal(folder.path / "whole", "explore")
        assert difference(folder.path / f"part{stop}", folder.path / "whole", "explore") == 0.0


def test_two_processes_are_one(tmp_path: Path) -> None:
    """Every rank sees all rows: statistics, totals and samples are those of one process."""
    (tmp_path / "r.yaml").write_text(recipe().replace("use: [./rewards.py]\n", "").replace(
        "{type: function, name: score, ", "{type: length, max_length: 6, soft: 6, "
    ))  # fmt: skip
    (tmp_path / "a.jsonl").write_text(ROWS)
    ran_here(tmp_path, "one")
    ran_forked(tmp_path, "two", "machine.devices=2")
    assert sampled(tmp_path / "two") == sampled(tmp_path / "one")
    for mine, its in zip(journal(tmp_path / "one", "explore"), journal(tmp_path / "two", "explore"), strict=True):
        for name in ("reward", "rewards/early/running_mean", "rewards/early/running_std", "rewards/own/running_std"):
            assert its[name] == mine[name]
    assert difference(tmp_path / "one", tmp_path / "two", "explore") < 5e-6


def test_rewards_of_all_tries_count(folder: Any) -> None:
    """Groups that are dropped were scored: the statistics are over the rows of every try of a step."""
    assert isinstance(folder, Folder)
    text = recipe(", group_filter: {max_tries: 3, level: plain}")
    ended = folder.run(text, *USE, a__jsonl=ROWS, rewards__py=OWN)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/explore"
    values: list[float] = []
    found = journal(folder.path / "runs/small", "explore")
    for step, metrics in enumerate(found, 1):
        for one in json.loads((stage / f"samples/tries-step-{step:06d}.json").read_text()):
            values += one["explore/reward.early"]
        assert metrics["rewards/early/running_mean"] == pytest.approx(mean(values), rel=1e-12)
        assert metrics["rewards/early/running_std"] == pytest.approx(stdev(values), rel=1e-12)
    assert sum(metrics["groups/filtered"] for metrics in found) > 0


def test_the_graph_shows_what_is_carried() -> None:
    """Each normalised level has a node before the sum, and the loops carry its statistics."""
    text = recipe(", group_filter: {max_tries: 3, level: plain}")
    compiled = compile_recipe("r.yaml", text=text)
    assert compiled.graph is not None, compiled.diagnostics
    (stage,) = compiled.graph.stages
    tries = stage.loop.body[0]
    assert isinstance(tries, Loop)
    assert "moments" in tries.carries
    assert "moments" in stage.loop.carries
    names = [node.name for node in stage.nodes()]
    assert {"normalise.own", "normalise.early"} < set(names)
    assert "normalise.plain" not in names
    total = stage.node("sum.reward_R")
    assert total is not None
    assert [value.value.node for value in total.inputs if value.parameter == "*reward_R"] == [
        "explore/normalise.early",
        "explore/normalise.own",
        "explore/reward.plain",
    ]
    assert total.params["shapes"] == [[0.25, None], [0.0, [-1.5, 1.5]], [0.0, None]]

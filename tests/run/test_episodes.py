"""Recipes whose policy plays an environment, run whole: rows, evaluations, samples, and runs that were killed."""

import json
import re
import signal

import pytest
import test_resume
from support.corridor import LATE, Corridor
from support.small_recipes import Folder
from test_resume import left, run, said

import recipec.runtime.data.episode_tasks
import recipec.runtime.evaluation.held_out_episodes
from recipec.runtime.environment.episode_state import Turn
from recipec.spec.environment import Textworld

RECIPE = """\
recipec: 1
name: small
stages:
  learn:
    kind: sft
    from: scratch
    policy:
      type: causal_lm
      scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 96}
    data: {path: a.jsonl}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 1, rows_per_step: 2}
  explore:
    kind: rl
    from: learn
    data: {type: environment, size: 6}
    environment: {type: textworld, max_turns: 4, history: HISTORY}
    sampler: {num_generations: 4, max_completion_length: 3, rows: ROWS}
    reward:
      won: {type: environment}
    advantage:
      group: {type: group_relative}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-2}
    budget: {steps: 3, prompts_per_step: 2, save_every: 1}
evaluate:
  held_out:
    data: {type: environment, split: test, size: 3, task_seed: 7}
    sampler: {temperature: 1.0, num_generations: 2}
    metrics: [accuracy, reward, pass@2, majority]
    every: 2
"""
STEP = RECIPE.replace("HISTORY", "1").replace("ROWS", "step")
TRAJECTORY = RECIPE.replace("HISTORY", "append_only").replace("ROWS", "trajectory")
TREE = TRAJECTORY.replace("num_generations: 4, max_completion_length: 3", "type: tree, keep: 2, max_turn_length: 3")
DATA = "".join(json.dumps({"prompt": f"p{i}", "completion": f"c{i}"}) + "\n" for i in range(4))
NEEDED = (test_resume.NEEDED, recipec.runtime.data.episode_tasks, recipec.runtime.evaluation.held_out_episodes)


@pytest.fixture(autouse=True)
def corridors(monkeypatch):
    """Let the corridor stand in for the worlds of a package."""
    monkeypatch.setattr(Textworld, "impl", "support.corridor:Corridor")


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """Return a folder to run recipes in."""
    return Folder(tmp_path, monkeypatch, capsys)


def lines(path):
    """Read JSONL."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("recipe", "kind"), [(STEP, "step"), (TRAJECTORY, "trajectory")])
def test_a_stage_with_an_environment(folder, recipe, kind):
    """It runs end to end; samples say what each row read, wrote, saw and earned, and evaluations play around it."""
    ended = folder.run(recipe, "--out", "o", a__jsonl=DATA)
    assert ended.code == 0, ended.err
    home = folder.path / "o" / "stages"
    rows = lines(home / "explore" / "samples" / "step-000001.jsonl")
    episodes = {}
    for row in rows:
        episodes.setdefault(row["episode_id"], []).append(row)
    assert len(episodes) == 8
    for steps in episodes.values():
        assert [row["episode_step"] for row in steps] == list(range(len(steps)))
        assert kind == "step" or len(steps) == 1
        assert sum(row["env_reward"] for row in steps) == steps[0]["score"]
        assert ("state" in steps[0]) == (kind == "step")
        assert all(row["prompt"].startswith("train") for row in steps)
    metrics = lines(home / "explore" / "metrics.jsonl")
    assert all(0 < row["eval/held_out/turns"] <= 4 for row in metrics if "eval/held_out/turns" in row)
    assert {"eval/held_out/accuracy", "eval/held_out/errors", "eval/held_out/majority", "episodes/turns"} <= set(
        metrics[-1]
    )
    before = lines(home / "learn" / "samples" / "eval-held_out-000000.jsonl")
    assert before[0]["prompt"].startswith("test 7")
    won = {}
    for row in before:
        key = (row["prompt_id"], row["episode_id"])
        won[key] = won.get(key, 0.0) + row["reward"]
    assert len(won) == 6
    first = lines(home / "learn" / "metrics.jsonl")[0]
    assert first["eval/held_out/accuracy"] == pytest.approx(sum(won.values()) / 6)


@pytest.mark.parametrize("recipe", [STEP, TREE])
def test_samples_are_credited_as_in_the_run(folder, recipe):
    """The recipe of a run gives the rows of its samples the credit that they had; evaluations beside them are none."""
    ended = folder.run(recipe, "--out", "o", a__jsonl=DATA)
    assert ended.code == 0, ended.err
    samples = folder.path / "o" / "stages" / "explore" / "samples"
    assert list(samples.glob("eval-*"))
    written = [row for path in sorted(samples.glob("step-*")) for row in lines(path)]
    ended = folder.call("credit", "r.yaml", str(samples), "--format", "json")
    made = [json.loads(line) for line in ended.out.splitlines()]
    assert [row["advantage"] for row in made] == pytest.approx([row["advantage"] for row in written], abs=1e-9)
    assert [{**row, "advantage": 0} for row in written] == [
        {**{name: row[name] for name in row if name not in {"levels", "groups"}}, "advantage": 0} for row in made
    ]


def test_episodes_that_failed_are_told(folder):
    """An error of the environment has no reward, is counted and explained; at an evaluation it counts as wrong."""
    folder.write(late="0 2\n")
    recipe = STEP.replace("prompts_per_step: 2", "prompts_per_step: 6").replace("steps: 3", "steps: 1")
    ended = folder.run(recipe, "--out", "o", a__jsonl=DATA)
    assert ended.code == 0, ended.err
    home = folder.path / "o" / "stages"
    rows = lines(home / "explore" / "samples" / "step-000001.jsonl")
    failed = [row for row in rows if "error" in row]
    assert failed
    assert {(row["prompt_id"], row["error"], row["reward"]) for row in failed} == {(0, "timeout: no answer", None)}
    metrics = lines(home / "explore" / "metrics.jsonl")[-1]
    assert metrics["episodes/errors"] == len({row["episode_id"] for row in failed})
    assert metrics["eval/held_out/errors"] >= 0
    assert "episodes in error" in ended.err
    assert "timeout: no answer" in (folder.path / "o" / "report.html").read_text()


def test_too_many_errors_stop_the_run(folder):
    """More than a fifth of the episodes in error end the run with a code; what was done is kept and goes on later."""
    folder.write(late="".join(f"{task} 1\n" for task in range(6)))
    recipe = STEP[: STEP.index("evaluate:")]
    ended = folder.run(recipe, "--out", "o", a__jsonl=DATA)
    assert (ended.code, ended.first) == (4, "RC785") or ended.first == "RC785", ended.err
    assert (folder.path / "o" / "stages" / "learn" / "policy").exists()
    (folder.path / LATE).unlink()
    ended = folder.call("run", "r.yaml", "--out", "o")
    assert ended.code == 0, ended.err


def test_a_package_that_is_missing_is_found_first(folder, monkeypatch):
    """Without the package of an environment nothing is trained, and the extra is named."""
    monkeypatch.setattr(Textworld, "packages", {"no-such-package": "no_such_package"})
    ended = folder.run(STEP, "--out", "o", a__jsonl=DATA)
    assert ended.first == "RC716"
    assert "recipec[envs]" in ended.err
    assert not (folder.path / "o" / "stages" / "learn").exists()


def test_what_an_environment_needs_is_found_first(folder):
    """A file that an evaluation's own environment names is missed before anything is trained."""
    recipe = STEP.replace("    metrics: [", "    environment: {type: textworld, template: no.j2}\n    metrics: [")
    ended = folder.run(recipe, "--out", "o", a__jsonl=DATA)
    assert ended.first == "RC700"
    assert "evaluate.held_out.environment.template" in ended.err or "no.j2" in ended.err
    assert not (folder.path / "o" / "stages" / "learn").exists()


def test_games_and_shops_are_looked_at_first(folder):
    """A split without games, and a catalogue that is none, are found before anything is trained."""
    games = STEP.replace("type: textworld, max_turns: 4", "type: alfworld, games: games").replace(
        "split: test", "split: x"
    )
    (folder.path / "games" / "train").mkdir(parents=True)
    (folder.path / "games" / "train" / "a.tw-pddl").write_text("{}")
    ended = folder.run(games, "--out", "o", a__jsonl=DATA)
    assert ended.first == "RC811", ended.err
    shop = STEP.replace("type: textworld", "type: webshop, catalogue: c.json")
    ended = folder.run(shop, "--out", "o", a__jsonl=DATA, c__json="[{")
    assert ended.first == "RC824", ended.err
    assert not (folder.path / "o" / "stages" / "learn").exists()


def test_a_template_is_looked_at_first(folder):
    """A template that does not compile is found before anything is trained, with its line and the recipe's."""
    recipe = STEP.replace("type: textworld", "type: textworld, template: t.j2")
    ended = folder.run(recipe, "--out", "o", a__jsonl=DATA, t__j2="{{ goal }}\n{% if %}")
    assert ended.first == "RC712", ended.err
    assert "t.j2:2" in ended.err
    assert "r.yaml:" in ended.err
    assert not (folder.path / "o" / "stages" / "learn").exists()


def test_a_corpus_is_looked_at_first(folder):
    """A broken line of a corpus, an empty one and a folder in its place are found before anything is trained."""
    search = STEP.replace("type: textworld", "type: search_qa, retriever: {corpus: c.jsonl}")
    search = re.sub(r"data: \{type: environment.*\}", "data: {path: a.jsonl}", search)
    ended = folder.run(search, "--out", "o", a__jsonl=DATA, c__jsonl="{oops")
    assert ended.first == "RC800", ended.err
    assert "c.jsonl:1:2" in ended.err
    assert "r.yaml:" in ended.err, "the recipe's own line is shown, too"
    assert folder.run(search, "--out", "o", a__jsonl=DATA, c__jsonl="").first == "RC702"
    (folder.path / "c.jsonl").unlink()
    (folder.path / "c.jsonl").mkdir()
    assert folder.call("run", "r.yaml", "--out", "o").first == "RC700"
    assert not (folder.path / "o" / "stages" / "learn").exists()


@pytest.mark.parametrize("recipe", [STEP, TRAJECTORY, TREE])
def test_killed_runs_end_alike(tmp_path, recipe):
    """Kills anywhere change no bit of a run that plays episodes."""
    (tmp_path / "r.yaml").write_text(recipe)
    (tmp_path / "a.jsonl").write_text(DATA)
    assert run(tmp_path / "whole") == 0, said(tmp_path / "whole")
    kills = 0
    while (code := run(tmp_path / "killed", 41)) == -signal.SIGKILL:
        kills += 1
        assert kills < 30
    assert code == 0, said(tmp_path / "killed")
    assert kills
    assert left(tmp_path / "killed") == left(tmp_path / "whole")


def test_what_was_late_is_late_again(tmp_path):
    """A step that a kill hit after its rows were kept has the same timeouts, whatever the clock says now."""
    recipe = STEP.replace("steps: 3, prompts_per_step: 2", "steps: 1, prompts_per_step: 6")
    (tmp_path / "r.yaml").write_text(recipe[: recipe.index("evaluate:")])
    (tmp_path / "a.jsonl").write_text(DATA)
    wrote = tmp_path / "killed" / "stages" / "explore" / "samples" / "step-000001.jsonl"
    (tmp_path / LATE).write_text("0 2\n")
    assert run(tmp_path / "whole") == 0, said(tmp_path / "whole")
    strike = 1
    while not wrote.exists():
        assert run(tmp_path / "killed", strike) == -signal.SIGKILL
        strike += 8 if not (tmp_path / "killed" / "stages" / "learn" / "policy").exists() else 1
        strike = 1 if strike > 60 else strike
    (tmp_path / LATE).unlink()
    assert run(tmp_path / "killed") == 0, said(tmp_path / "killed")
    assert left(tmp_path / "killed") == left(tmp_path / "whole")
    assert wrote.with_name("late-step-000001.json").exists()


def test_turns_are_shown_as_positions(tmp_path):
    """The corridor keeps to the protocol: the same position may be stepped again and answers the same."""
    from types import SimpleNamespace

    from recipec.runtime.batch import Task

    policy = SimpleNamespace(encode=lambda text: tuple(map(ord, text)))
    context = SimpleNamespace(root=tmp_path)
    world = Corridor(SimpleNamespace(history="append_only", max_turns=2), context, policy=policy)
    (begun,) = world.start([Task(0, "", (), {"goal": "g", "doors": 2})])
    one, other = world.step([begun, begun], [Turn((2,), ""), Turn((3,), "")])
    assert (one.state, other.state, one.context_ids[: len(begun.context_ids)]) == ("1", "0", begun.context_ids)
    assert world.step([one], [Turn((2,), "")])[0].reward == 1.0

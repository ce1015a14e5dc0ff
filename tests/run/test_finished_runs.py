"""A finished run: what trains it again and what does not, and what its directory holds."""

import re
import shutil
from pathlib import Path

from support.small_recipes import RL, ROWS, SFT
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM

from recipec.host import packages
from recipec.host.jsonl import read_lines
from recipec.host.progress import Progress
from recipec.report.page import samples
from recipec.runtime.logging.learning_watch import LearningWatch

REWARDS = """\
BONUS = 1.0

def other(completions, **columns):
    return [0.0 for text in completions]

def score(completions, answer, **columns):
    return [BONUS * (right in text) for text, right in zip(completions, answer)]
"""
USE = ("--use", "rewards.py")


def test_only_code_that_a_stage_calls_trains_it_again(folder):
    """A comment, a docstring and another function re-run nothing; a constant that the function reads does."""
    assert folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=REWARDS).code == 0
    idle = REWARDS.replace("BONUS = 1.0", "# a comment\nBONUS = 1.0").replace("[0.0 for", "[0.5 for")
    idle = idle.replace("    return [BONUS", '    """Score."""\n    return [BONUS')
    for text, action in ((idle, "is skipped"), (REWARDS.replace("1.0", "2.0"), "runs")):
        folder.write(rewards__py=text)
        planned = folder.call("plan", "r.yaml")
        assert f"stage explore (rl, from: scratch) {action}" in planned.out


def test_a_recipe_that_ran_no_step_may_change(folder):
    """After a run that ended before its first step, another recipe takes the directory; after a step it is RC760."""
    assert folder.run(RL, *USE, a__jsonl=ROWS, rewards__py="def score(completions): raise OSError").code in {1, 4}
    other = RL.replace("1.0e-3", "2.0e-3")
    assert folder.run(other, *USE, rewards__py=REWARDS).code == 0
    assert folder.run(RL, *USE).first == "RC760"


def test_new_versions_and_evaluations_are_told(folder, monkeypatch):
    """A stage finished under another torch is kept, and told (RC920), as are evaluations that it lacks (RC921)."""
    assert folder.run(SFT, a__jsonl=ROWS).code == 0
    monkeypatch.setattr(packages, "version", lambda name: "9.9" if name == "torch" else "absent")
    held_out = "evaluate: {held_out: {data: {path: a.jsonl}, metrics: [margin], from: learn}}\n"
    told = folder.run(SFT.replace("stages:", held_out.replace(", from: learn", "") + "stages:"))
    assert told.code == 0
    assert "finished before" in told.err
    assert "RC920" in told.err
    assert "now 9.9" in told.err
    assert "RC921" in told.err


def test_what_a_run_directory_holds(folder):
    """Model, user code and recipe as run are whole after a copy; TensorBoard has the replaced run's curve alone."""
    assert folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=REWARDS).code == 0
    rate = ("--set", "stages.explore.optimizer.learning_rate=3.0e-3")
    assert folder.run(RL, *USE, "--replace", *rate).code == 0
    home = folder.path / "runs/small"
    shutil.copytree(home / "model", folder.path / "deployed", symlinks=True)
    AutoModelForCausalLM.from_pretrained(folder.path / "deployed")
    assert (home / "code/rewards.py").read_text() == REWARDS
    assert re.search(r"optimizer.learning_rate: 0.003 +# <command line>", (home / "resolved.txt").read_text())
    assert "0.003" in (home / "report.html").read_text()
    assert not any(set(path.name) & set('<>:"|?*') for path in home.rglob("*"))
    events = EventAccumulator(str(home / "tensorboard/explore")).Reload()
    assert [event.step for event in events.Tensors("explore/learning_rate")] == [1, 2]


def test_a_run_that_learns_nothing_warns(folder):
    """Equal rewards everywhere are reported during the run and at its end, each code once."""
    steps = ("--set", "stages.explore.budget.steps=7")
    flat = "def score(completions, **columns):\n    return [0.0 for _ in completions]\n"
    ended = folder.run(RL, *USE, *steps, a__jsonl=ROWS, rewards__py=flat)
    assert ended.code == 0
    for code in ("RC930", "RC931", "RC934"):
        assert ended.err.count(f"explore: warning[{code}]") == 1
        assert ended.err.count(f"\nwarning[{code}]") == 1


def test_a_run_that_learns_nothing_stops_where_the_recipe_says_so(folder):
    """RC970 after five such steps, with a checkpoint; the same again at once, and the rest without `stop_when`."""
    flat = "def score(completions, **columns):\n    return [0.0 for _ in completions]\n"
    steps = ("--set", "stages.explore.budget.steps=8")
    words = ("--set", "stages.explore.budget.stop_when=[kl_runs_away, constant_reward]")
    loss = ("--set", "stages.explore.loss.beta=0.1", "--set", "stages.explore.reference={type: frozen}")
    once = folder.run(RL, *USE, *steps, *loss, *words, a__jsonl=ROWS, rewards__py=flat)
    assert once.code == 4
    assert "error[RC970]: stage `explore` was stopped after step 6: `constant_reward`" in once.err
    checkpoints = folder.path / "runs/small/stages/explore/checkpoints"
    assert "step-000006" in {path.name for path in checkpoints.iterdir()}
    assert folder.run(RL, *USE, *steps, *loss, *words).first == "RC970"
    assert folder.run(RL, *USE, *steps, *loss).code == 0
    lines = read_lines(folder.path / "runs/small/stages/explore/metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7, 8]


def test_entropy_and_kl_are_watched():
    """Entropy is compared with the first step's, KL with 1 nat; four steps are not enough."""
    watch = LearningWatch("explore")
    steps = [{"entropy": 2.0, "kl": 0.1}, *[{"entropy": 0.01, "kl": 3.0}] * 6]
    assert [one.code for step in steps[:5] for one in watch.step(step)] == []
    assert [one.code for step in steps[5:] for one in watch.step(step)] == ["RC933", "RC935"]


def test_equal_rewards_of_a_group_say_nothing_without_groups():
    """Where a critic gives credit and every prompt has one answer, equal rewards in a group are no warning."""
    steps = [{"frac_reward_zero_std": 1.0, "reward": float(place)} for place in range(9)]
    watch, alone = LearningWatch("explore"), LearningWatch("explore", groups=False)
    assert [one.code for step in steps for one in watch.step(step)] == ["RC930"]
    assert [one.code for step in steps for one in alone.step(step)] == []


def test_samples_show_the_worst_row(tmp_path: Path):
    """Of many rows of the last step the best and the worst are on the page."""
    rows = "".join(f'{{"reward": {int(i > 2)}.0, "text": "t{i}"}}\n' for i in range(500))
    (tmp_path / "step-000002.jsonl").write_text(rows)
    shown = samples(tmp_path)
    assert (shown[0]["reward"], shown[-1]["reward"], len(shown)) == (1.0, 0.0, 6)


def test_time_left_counts_the_first_step(capsys):
    """Printed after the first of four steps of 10 s, the time left is that of three steps."""
    Progress(live=False).step("learn", 1, 4, {"seconds/step": 10.0})
    assert "30 s left" in capsys.readouterr().err

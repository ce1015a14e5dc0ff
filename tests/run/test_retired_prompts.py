"""Prompts that the policy solves leave later epochs, in every way of sampling, and stay away after a stop."""

import json
import os
import signal
from typing import Any

import pytest
import torch
from support.ranks import journal, sampled
from support.small_recipes import RL, Folder, rows

from recipec.runtime.context import StageContext
from recipec.runtime.data.table import Table
from recipec.runtime.objective.solved import passed
from recipec.runtime.training.local_engine import LocalEngine

ROWS = rows(*({"prompt": f"p{i}", "answer": i} for i in range(12)))
OWN = (
    "def score(prompts, completions, answer, **_):\n"
    "    return [float(a < 5) + float(i % 2) / 4 for i, a in enumerate(answer)]\n"
)
RECIPE = RL.replace("num_generations: 2", "num_generations: 2, retire: {pass_rate: 1.0}").replace(
    "steps: 2, prompts_per_step: 2", "steps: 7, prompts_per_step: 4, save_every: 1"
)


def ids(folder: Folder, run: str = "runs/small") -> list[list[int]]:
    """Prompts of each step."""
    files = sorted((folder.path / run / "stages/explore/samples").glob("step-*.jsonl"))
    return [sorted({json.loads(line)["prompt_id"] for line in file.read_text().splitlines()}) for file in files]


@pytest.mark.parametrize("more", ["", ", group_filter: {max_tries: 2}", ", group_filter: {action: drop}"])
def test_solved_prompts_leave_later_epochs(folder: Any, more: str) -> None:
    """Each prompt is sampled in the first epoch; afterwards those with enough reward are gone, filtered ones too."""
    assert isinstance(folder, Folder)
    text = RECIPE.replace("{pass_rate: 1.0}", f"{{pass_rate: 1.0}}{more}")
    own = OWN.replace("+ float(i % 2) / 4", "") if more else OWN
    ended = folder.run(text, "--use", "./rewards.py", a__jsonl=ROWS, rewards__py=own)
    assert ended.code == 0, ended.err
    steps = ids(folder)
    found = journal(folder.path / "runs/small", "explore")
    assert [line["prompts/retired"] for line in found][-1] == 5.0
    if not more:
        assert sorted(prompt for step in steps[:3] for prompt in step) == list(range(12))
        assert sorted(prompt for step in steps[3:5] for prompt in step) == list(range(5, 12))
        assert all(prompt >= 5 for step in steps[3:] for prompt in step)
    assert all(prompt >= 5 for step in steps[-2:] for prompt in step)


def test_a_stopped_run_keeps_them_away(folder: Any, monkeypatch: Any) -> None:
    """What is retired is in checkpoints: a run that was stopped in the second epoch draws what a whole one draws."""
    assert isinstance(folder, Folder)
    use = ("--use", "./rewards.py")
    assert folder.run(RECIPE, "--out", "whole", *use, a__jsonl=ROWS, rewards__py=OWN).code == 0
    update, count = LocalEngine.update, [0]

    def struck(*args: Any, **named: Any) -> dict[str, float]:
        count[0] += 1
        if count[0] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(*args, **named)

    monkeypatch.setattr(LocalEngine, "update", struck)
    assert folder.call("run", "r.yaml", "--out", "part", *use).code == 75
    monkeypatch.setattr(LocalEngine, "update", update)
    assert folder.call("run", "r.yaml", "--out", "part", *use).code == 0
    assert sampled(folder.path / "part") == sampled(folder.path / "whole")
    assert ids(folder, "part") == ids(folder, "whole")


def test_an_epoch_has_one_step_of_prompts(folder: Any) -> None:
    """Where all prompts are solved, those that were retired last come back."""
    assert isinstance(folder, Folder)
    own = "def score(prompts, completions, answer, **_):\n    return [1.0 + i % 2 for i, _ in enumerate(answer)]\n"
    ended = folder.run(RECIPE, "--use", "./rewards.py", a__jsonl=ROWS, rewards__py=own)
    assert ended.code == 0, ended.err
    steps = ids(folder)
    assert all(len(step) == 4 for step in steps)
    assert steps[3] == steps[4] == steps[2]
    assert journal(folder.path / "runs/small", "explore")[-1]["prompts/retired"] == 12.0


def test_a_pass_is_one_of_an_episode() -> None:
    """Steps of an episode are added up, failed rows are not counted, and a prompt without any is not solved."""
    reward_R = torch.tensor([0.5, 0.5, 0.0, 1.0, 1.0, float("nan")])
    failed_R = torch.tensor([False, False, True, False, False, True])
    prompt_id_R, episode_id_R = torch.tensor([3, 3, 3, 4, 4, 5]), torch.tensor([0, 0, 1, 2, 3, 4])
    assert passed(reward_R, failed_R, prompt_id_R, episode_id_R, 1.0, 1.0) == [3, 4]
    assert passed(reward_R, failed_R, prompt_id_R, episode_id_R, 1.0, 1.5) == []


def test_old_checkpoints_are_read(tmp_path: Any) -> None:
    """A place in the data without retired prompts is that of a run before there were any."""
    table = Table({"prompt_P": [*range(4)]}, StageContext(tmp_path, tmp_path, 0, "a"))
    table.draw(2)
    assert table.state() == {"epoch": 0, "cursor": 2}
    table.load({"epoch": 1, "cursor": 0})
    assert (table.retired, table.absent) == ([], frozenset())

"""Rollout rows on disk: written as sampled, read back the same, refused when they were altered."""

import json
import math

import pytest
import torch

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.data.scored_rows import read_rollouts, write_rows


def columns():
    """Return the columns of three rows of two tasks."""
    return {
        "prompt_P": [Task(7, "p", (1, 2), {"answer": "4", "odd": math.nan}), Task(9, [{"role": "user"}], (3,))],
        "by_prompt_R": torch.tensor([0, 1, 1]),
        "tokens_RT": torch.tensor([[1, 2, 5, 6], [3, 8, 9, 0], [3, 8, 0, 0]]),
        "attend_RT": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool(),
        "trained_RT": torch.tensor([[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]]).bool(),
        "text_R": ["é\n", "b", "c"],
        "reward_R": torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64),
        "failed_R": torch.tensor([False, False, True]),
        "step_R": torch.tensor([0, 4, 5]),
    }


def test_rows_come_back_as_they_were(tmp_path):
    """Ids, masks, texts and rewards survive; a failed row's reward comes back as NaN."""
    write_rows(tmp_path / "r" / "step-000003.jsonl", columns(), levels={"a": torch.tensor([1.0, 2.0, 3.0])}, step=3)
    first, second, third = read_rollouts(tmp_path / "r", "explore.rollouts")
    assert (first.prompt_id, first.prompt_ids, first.ids, first.trained) == (7, (1, 2), (5, 6), (True, True))
    assert (first.text, first.reward, first.step, first.columns) == ("é\n", 1.0, 3, {"answer": "4", "odd": None})
    assert (second.prompt_ids, second.ids, second.trained) == ((3, 8), (9,), (True,))
    assert math.isnan(third.reward)
    assert (third.file, third.line) == ("explore.rollouts/step-000003.jsonl", 3)
    written = json.loads((tmp_path / "r" / "step-000003.jsonl").read_text().splitlines()[1])
    assert (written["rewards"], written["step"], written["episode_step"]) == ({"a": 2.0}, 3, 4)


def test_rows_of_episodes_come_back(tmp_path):
    """A row's prompt is what stands before its first own token; its score counts; one without a token is left out."""
    made = {
        "prompt_P": [Task(7, "find it", (), {})],
        "by_prompt_R": torch.tensor([0, 0, 0]),
        "tokens_RT": torch.tensor([[1, 2, 5, 3, 6], [4, 8, 0, 0, 0], [1, 0, 0, 0, 0]]),
        "attend_RT": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool(),
        "trained_RT": torch.tensor([[0, 0, 1, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool(),
        "text_R": ["ac", "h", ""],
        "transcript_R": ["abc", "h", ""],
        "reward_R": torch.tensor([0.0, 1.0, 0.0]),
        "score_R": torch.tensor([1.0, 1.0, 0.0]),
        "error_R": torch.tensor([False, False, True]),
        "error_text_R": ["", "", "timeout: x"],
        "failed_R": torch.tensor([False, False, True]),
        "episode_id_R": torch.tensor([4, 4, 5]),
        "step_R": torch.tensor([0, 1, 0]),
        "by_tree_R": torch.tensor([2, 2, 3]),
        "state_R": ["kitchen", {"at": [1, 2]}, None],
        "action_valid_R": torch.tensor([True, False, True]),
        "env_reward_R": torch.tensor([0.0, 1.0, 0.0]),
    }
    write_rows(tmp_path / "step-000000.jsonl", made, read=lambda ids: "".join(map(str, ids)))
    first, second = read_rollouts(tmp_path, "explore.rollouts")
    assert (first.prompt_ids, first.ids, first.trained) == ((1, 2), (5, 3, 6), (True, False, True))
    assert (second.prompt_ids, second.ids, second.reward, second.episode, first.reward) == ((4,), (8,), 1.0, 4, 1.0)
    one, two, three = (json.loads(line) for line in (tmp_path / "step-000000.jsonl").read_text().splitlines())
    assert (one["prompt"], one["transcript"], one["tree_id"], one["state"]) == ("12", "abc", 2, "kitchen")
    assert (two["state"], two["action_valid"], two["env_reward"], two["episode_step"]) == (
        {"at": [1, 2]},
        False,
        1.0,
        1,
    )
    assert (three["error"], three["reward"], "error" in two, "transcript" in two) == ("timeout: x", None, False, False)


def test_no_file_is_left_half_written(tmp_path):
    """When a row cannot be written, the file does not appear."""
    broken = columns() | {"text_R": ["a"]}
    with pytest.raises(IndexError):
        write_rows(tmp_path / "s.jsonl", broken)
    assert not (tmp_path / "s.jsonl").exists()


@pytest.mark.parametrize(
    "change",
    [{"ids": None}, {"ids": []}, {"ids": [-1]}, {"ids": ["x"]}, {"trained": [1, 1]}, {"reward": "x"}, {"columns": 3}],
)
def test_altered_rows_are_refused(tmp_path, change):
    """A row that is not what we write is RC717 with its line."""
    write_rows(tmp_path / "s.jsonl", columns())
    lines = (tmp_path / "s.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    (tmp_path / "s.jsonl").write_text("\n".join(lines))
    with pytest.raises(RecipeError) as caught:
        read_rollouts(tmp_path, "explore.rollouts")
    found = caught.value.diagnostics[0]
    assert (found.code, found.spans[0].line) == ("RC717", 2)


@pytest.mark.parametrize("text", ["{", "[]", "7", "{}", "\xff"])
def test_garbage_is_refused(tmp_path, text):
    """What is no row at all is RC717 too, and so is an empty folder."""
    (tmp_path / "s.jsonl").write_text(text, encoding="latin-1")
    with pytest.raises(RecipeError) as caught:
        read_rollouts(tmp_path, "explore.rollouts")
    assert caught.value.diagnostics[0].code == "RC717"
    (tmp_path / "s.jsonl").unlink()
    with pytest.raises(RecipeError):
        read_rollouts(tmp_path, "explore.rollouts")

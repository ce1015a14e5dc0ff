"""Thinking that is too long is ended by a text that is seen and not trained."""

import json
from typing import Any

import torch
from support.small_recipes import RL, ROWS, Folder

from recipec.runtime.model.scratch import characters
from recipec.runtime.rollout.engine import Completion
from recipec.runtime.rollout.rows import sampled_columns

REWARDS = "def score(completions, **columns):\n    return [float(len(c)) for c in completions]\n"
SAMPLER = 'max_completion_length: 12, interrupt: {after: 4, text: "#!", marker: "e"}'


def rows(folder: Folder) -> list[dict[str, Any]]:
    """Rows of all steps."""
    files = sorted((folder.path / "runs/small/stages/explore/samples").glob("step-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_long_completions_are_interrupted_once(folder: Any) -> None:
    """The text stands behind the first tokens, except where a completion has ended or has the marker by then."""
    assert isinstance(folder, Folder)
    text = RL.replace("num_generations: 2, max_completion_length: 4", f"num_generations: 24, {SAMPLER}")
    ended = folder.run(text, "--use", "./rewards.py", a__jsonl=ROWS, rewards__py=REWARDS)
    assert ended.code == 0, ended.err
    found = rows(folder)
    tokenizer = characters()
    text_ids, (marker,) = (tokenizer.encode(one, add_special_tokens=False) for one in ("#!", "e"))
    put = [row for row in found if row["ids"][4:6] == text_ids]
    assert 0 < len(put) < len(found)
    for row in found:
        begun, ended_early = row["ids"][:4], len(row["ids"]) <= 4
        assert (row["ids"][4:6] == text_ids) == (not ended_early and marker not in begun), row["text"]
        assert len(row["ids"]) <= 12
    assert max(len(row["ids"]) for row in put) > 6
    lines = (folder.path / "runs/small/stages/explore/metrics.jsonl").read_text().splitlines()
    shares = [json.loads(line)["completions/interrupted_ratio"] for line in lines]
    assert sum(shares) / len(shares) * len(found) == len(put)
    generated = sum(json.loads(line)["tokens/generated"] for line in lines)
    assert generated == sum(len(row["ids"]) for row in found) - len(text_ids) * len(put)


def test_what_was_put_is_not_trained() -> None:
    """Tokens that nobody drew are attended to, have log-probability 0 and are out of the loss."""
    made = sampled_columns([((1, 2), Completion((3, 4, 5, 6), (-1.0, 0.0, 0.0, -2.0), ended=True, given=(1, 3)))])
    assert made["trained_RT"].tolist() == [[False, False, True, False, False, True]]
    assert made["attend_RT"].all()
    assert torch.equal(made["turn_RT"], made["trained_RT"].long())

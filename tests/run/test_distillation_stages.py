"""Stages that learn from a teacher: on their own samples, on given answers, and next to a reward."""

import errno
import json
from typing import Any

import pytest
from support.small_recipes import MODEL, Folder, rows
from test_resume import left

from recipec.runtime.training.local_engine import LocalEngine

ROWS = rows(*({"prompt": f"p{i}", "completion": "yes" + "b" * (i % 3)} for i in range(8)))
TEACHER = f"""\
recipec: 1
name: small
stages:
  teach:
    kind: sft
{MODEL}\
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 2.0e-2}}
    budget: {{steps: 12, rows_per_step: 8}}
  learn:
    kind: KIND
{MODEL}\
    reference: {{from: teach}}
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
"""
SAMPLED = """\
    sampler: {num_generations: 2, max_completion_length: 6}
    budget: {steps: 12, prompts_per_step: 8, updates_per_step: 2, microbatch_tokens: 64}
"""
CASES = {
    "gkd": ("rl", SAMPLED + "    loss: {type: gkd, beta: 0.5}\n", "divergence"),
    "gkd, rewards watched": (
        "rl",
        SAMPLED + "    loss: {type: gkd}\n    reward: {low: {type: regex_format, pattern: y.*}}\n",
        "divergence",
    ),
    "given answers": (
        "sft",
        "    loss: {type: gkd, beta: 0.0, top_k: 8}\n    budget: {steps: 12, rows_per_step: 8}\n",
        "divergence",
    ),
    "credit": (
        "rl",
        SAMPLED + "    loss: {type: clipped}\n    advantage: {teacher: {type: reverse_kl}, whiten: tokens}\n",
        "teacher/reverse_kl",
    ),
    "credit and reward": (
        "rl",
        SAMPLED
        + "    loss: {type: clipped}\n    reward: {low: {type: regex_format, pattern: y.*}}\n"
        + "    advantage: {teacher: {type: reverse_kl, weight: 0.5, clamp: 5.0}, group: {type: group_relative}}\n",
        "teacher/reverse_kl",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_policy_comes_nearer_to_its_teacher(name: str, folder: Any) -> None:
    """The divergence from the teacher falls by a fifth at least, and rewards are metrics where there are any."""
    assert isinstance(folder, Folder)
    kind, said, metric = CASES[name]
    ended = folder.run(TEACHER.replace("KIND", kind) + said, a__jsonl=ROWS)
    assert ended.code == 0, ended.err
    lines = (folder.path / "runs/small/stages/learn/metrics.jsonl").read_text().splitlines()
    found = [line for line in map(json.loads, lines) if line.get("step")]
    assert found[-1][metric] < 0.8 * found[0][metric]
    assert ("reward" in found[-1]) == ("reward:" in said)


def test_an_interrupted_stage_continues_to_the_same_bits(folder: Any, monkeypatch: Any) -> None:
    """A disk that fails amid the updates of a step changes nothing of what the student ends with."""
    kind, said, _ = CASES["gkd"]
    teacher = TEACHER.replace("KIND", kind).replace("steps: 12", "steps: 1")
    recipe = teacher + said.replace("steps: 12", "steps: 3, save_every: 1")
    assert folder.run(recipe, "--out", "whole", a__jsonl=ROWS).code == 0
    update, calls = LocalEngine.update, []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1 + 4:
            raise OSError(errno.ENOSPC, "no space left")
        return update(*args, **kwargs)

    monkeypatch.setattr(LocalEngine, "update", failing)
    assert folder.run(recipe, "--out", "part", a__jsonl=ROWS).code == 4
    assert folder.run(recipe, "--out", "part", a__jsonl=ROWS).code == 0
    assert left(folder.path / "part") == left(folder.path / "whole")

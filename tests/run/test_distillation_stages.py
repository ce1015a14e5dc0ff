"""Stages that learn from a teacher: on their own samples, on given answers, and next to a reward."""

import json
from typing import Any

import pytest
from support.small_recipes import MODEL, Folder, rows

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

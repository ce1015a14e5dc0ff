"""Every published setting trains a small new model for two steps."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from support.small_recipes import Folder, rows

FRAGMENTS = sorted(path.stem for path in (Path(__file__).parents[2] / "recipes" / "algorithms").glob("*.yaml"))
MODEL = (
    "{type: causal_lm, scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, "
    "max_positions: 512}}"
)
TEACHER = f"""\
  learn:
    kind: sft
    from: scratch
    policy: {MODEL}
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 1, rows_per_step: 4}}
  teach:
    kind: sft
    from: learn
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 5.0e-2}}
    budget: {{steps: 1, rows_per_step: 4}}
"""
LAKE = "{type: gymnasium, id: FrozenLake-v1, options: {is_slippery: false}, max_turns: 2, replayable: true}"
SEARCH = "{type: search_qa, max_turns: 2, max_observation_length: 20}"
ANSWERS = rows(*({"prompt": f"p{i}", "completion": f"c{i}", "answer": "e"} for i in range(8)))
CHOICES = rows(*({"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": "no"} for i in range(8)))
LABELS = rows(*({"prompt": f"p{i}", "completion": f"c{i}", "label": i % 2 == 0} for i in range(8)))


def stage(**settings: str) -> str:
    """Write the stage that trains, its settings in the order of the fragment's slots."""
    usual = {
        "kind": "rl",
        "from": "scratch",
        "policy": MODEL,
        "data": "{path: a.jsonl}",
        "sampler": "{max_completion_length: 6}",
        "reward": '{early: {type: regex_format, pattern: "[ -K].*"}}',
        "optimizer": "{learning_rate: 1.0e-2}",
        "budget": "{steps: 2, prompts_per_step: 8}",
    }
    return "".join(f"    {key}: {value}\n" for key, value in (usual | settings).items() if value)


PAIRS = stage(kind="dpo", data="{path: pairs.jsonl}", sampler="", reward="", budget="{steps: 2, pairs_per_step: 4}")
TAUGHT = stage(reference="{from: teach}", policy="").replace("from: scratch", "from: learn")
TREES = {"environment": SEARCH, "sampler": "{max_turn_length: 8}"}
STEPS = {
    "data": "{type: environment, size: 4}",
    "environment": LAKE,
    "sampler": "{num_generations: 4, max_turn_length: 4}",
}
FEW = "{learning_rate: 1.0e-2, warmup_updates: 0}"
CLIPPED = {"loss": "{type: clipped}"}
CASES = {
    "cpo": PAIRS,
    "dapo": stage(
        reward='{early: {type: regex_format, pattern: "[ -K].*"}, overlong: {max_length: 6, soft: 2}}',
        optimizer=FEW,
        budget="{steps: 2, prompts_per_step: 8, prompts_per_update: 2}",
    ),
    "dpo": PAIRS.replace("1.0e-2}", "1.0e-2, warmup_updates: 0}"),
    "gdpo": stage(
        reward='{correct: {type: regex_format, pattern: "[ -K].*"}, format: {type: length, max_length: 6, soft: 5}}',
        **CLIPPED,
    ),
    "gigpo": stage(**STEPS),
    "gkd": TAUGHT,
    "grpo_graphiq": stage(reference="{sync_every_updates: 1}", optimizer=FEW),
    "grpo_pp": stage(reference="{sync_every_updates: 1}", optimizer=FEW),
    "hgpo": stage(**STEPS),
    "kto": stage(
        kind="sft",
        data="{path: labels.jsonl}",
        sampler="",
        reward="",
        reference="{type: frozen}",
        budget="{steps: 2, rows_per_step: 4}",
    ),
    "on_policy_distillation": TAUGHT,
    "orpo": PAIRS,
    "ppo_hh": stage(reward='{quality: {type: regex_format, pattern: "[ -K].*"}}'),
    "rtmc": stage(**STEPS, **CLIPPED),
    "simpo": PAIRS.replace("{steps: 2, ", "{epochs: 1, "),
    "tempo": stage(**CLIPPED),
    "tree_adv": stage(**TREES, **CLIPPED),
    "tree_grpo": stage(**TREES, budget="{steps: 2, prompts_per_step: 8, prompts_per_update: 4}"),
}
"""Fragments that need more than data and a reward, and the stage that extends them."""


@pytest.mark.parametrize("name", FRAGMENTS)
def test_a_published_setting_trains(folder: Any, name: str) -> None:
    """A stage that extends the fragment takes two steps on the CPU: losses are numbers, and weights get a gradient."""
    assert isinstance(folder, Folder)
    text = CASES.get(name, stage())
    stages = f"{TEACHER if text == TAUGHT else ''}  train:\n    extends: [recipec:algorithms/{name}]\n{text}"
    recipe = f"recipec: 1\nname: small\nstages:\n{stages}"
    ended = folder.run(recipe, a__jsonl=ANSWERS, pairs__jsonl=CHOICES, labels__jsonl=LABELS)
    assert ended.code == 0, ended.err
    lines = (folder.path / "runs/small/stages/train/metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert len(steps) == 2
    assert all(math.isfinite(step["loss"]) for step in steps)
    assert any(step["grad_norm"] > 0 for step in steps)

"""A stage of each kind that merges its parent's adapter and trains all weights."""

import pytest
from safetensors.torch import load_file
from support.small_recipes import MODEL, RL, ROWS, rows

LEARN = f"""\
recipec: 1
name: small
use: [./rewards.py]
stages:
  learn:
    kind: sft
{MODEL.rstrip()}
      lora: {{r: 2, targets: [lm_head, q_proj]}}
    data: {{path: a.jsonl}}
    optimizer: {{learning_rate: 1.0e-2}}
    budget: {{steps: 2, rows_per_step: 2}}
  again:
    from: learn
    adapter: merge
    policy: {{type: causal_lm}}
"""
SFT = "    kind: sft\n    data: {path: a.jsonl}\n    budget: {steps: 1, rows_per_step: 4}\n"
DPO = "    kind: dpo\n    data: {path: pairs.jsonl}\n    budget: {steps: 1, pairs_per_step: 2}\n"
KINDS = {
    "sft": SFT + "    optimizer: {learning_rate: 1.0e-2}\n",
    "dpo": DPO + "    optimizer: {learning_rate: 1.0e-2}\n",
    "rl": "    kind: rl\n" + RL[RL.index("    data:") :].replace("1.0e-3", "1.0e-2"),
}
PAIRS = rows(*({"prompt": f"p{i}", "chosen": "abc", "rejected": "xyz"} for i in range(4)))
REWARDS = "def score(prompts, completions, **columns):\n    return [float(len(text)) for text in completions]\n"


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_is_trained_after_a_merge(folder, kind):
    """Tied weights that an adapter untied, and all others, change in the next stage."""
    ended = folder.run(
        LEARN + KINDS[kind], "--use", "rewards.py", a__jsonl=ROWS, pairs__jsonl=PAIRS, rewards__py=REWARDS
    )
    assert ended.code == 0, ended.err
    stages = folder.path / "runs/small/stages"
    before = load_file(stages / "learn/policy/base/weights-00000.safetensors")
    after = load_file(stages / "again/policy/model.safetensors")
    assert set(after) == {*before, "lm_head.weight"}
    assert [name for name, weight in before.items() if weight.equal(after[name])] == []
    assert not (stages / "again/policy/adapter_config.json").exists()

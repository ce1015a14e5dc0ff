"""A stage trains turns, the next one samples: answers end where turns were trained to end, or nothing is trained."""

import json

import pytest
from support.small_recipes import RL, rows
from tokenizers import AddedToken

from recipec.runtime.model.scratch import build_model, characters
from recipec.spec.policy import Scratch

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}END\n{% endfor %}"
CHATML += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
RECIPE = """\
recipec: 1
name: small
use: [./rewards.py]
stages:
  learn:
    kind: sft
    from: ./model
    policy: {type: causal_lm, chat_template: t.jinja}
    data: {path: talk.jsonl}
    optimizer: {learning_rate: 3.0e-2, schedule: constant}
    budget: {steps: 40, rows_per_step: 4}
  explore:
    kind: rl
    from: learn
    data: {path: asked.jsonl}
""" + RL.partition("    data: {path: a.jsonl}\n")[2].replace("max_completion_length: 4", "max_completion_length: 12")
REWARDS = "def score(completions, **columns):\n    return [float(len(text) < 4) for text in completions]\n"


@pytest.mark.parametrize("end", ["<|im_end|>", "{{ eos_token }}", ""])
def test_answers_end_where_turns_were_trained_to_end(folder, end):
    """A base model whose text ends with another token than ChatML's turns; a template without an end is refused."""
    tokenizer = characters()
    tokenizer.add_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    sizes = {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32, "max_positions": 64}
    build_model(Scratch(**sizes), tokenizer).save_pretrained(folder.path / "model")
    tokenizer.save_pretrained(folder.path / "model")
    asked = [[{"role": "user", "content": str(i)}] for i in range(4)]
    ended = folder.run(
        RECIPE,
        "--use",
        "rewards.py",
        t__jinja=CHATML.replace("END", end),
        rewards__py=REWARDS,
        talk__jsonl=rows(*({"messages": [*m, {"role": "assistant", "content": "a"}]} for m in asked)),
        asked__jsonl=rows(*({"prompt": m} for m in asked)),
    )
    if not end:
        assert ended.code == 1
        assert "error[RC739]" in ended.err
        assert "talk.jsonl:1" in ended.err
        return
    assert ended.code == 0, ended.err
    (explore,) = folder.path.glob("runs/*/stages/explore")
    metrics = [json.loads(line) for line in (explore / "metrics.jsonl").read_text().splitlines()]
    assert metrics[0]["completions/clipped_ratio"] < 0.5
    described = json.loads((explore / "policy" / "generation_config.json").read_text())
    assert described["eos_token_id"] == ([2, 101] if "im_end" in end else 2)
    assert ("`<|im_end|>` ends the assistant's turns" in ended.err) == ("im_end" in end)

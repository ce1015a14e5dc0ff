"""`recipec certify` for policies that see: rows show images, alone and behind shared beginnings."""

import json

import pytest

RECIPE = """\
recipec: 1
name: seen
stages:
  go:
    kind: rl
    from: {origin}
    policy: {{type: vision_lm, {policy}}}
    data: {{path: x.jsonl, max_length: 24}}
    sampler: {{num_generations: 3, max_completion_length: 12}}
    reward: {{right: {{type: exact_match}}}}
    advantage: {{all: {{type: group_relative}}}}
    loss: {{type: clipped}}
    attention: {{type: trie}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 1, prompts_per_step: 2}}
"""


@pytest.mark.parametrize(
    ("origin", "policy", "named"),
    [
        ("scratch", "scratch: {architecture: idefics3, hidden_size: 32, layers: 2, heads: 4}", "the recipe's own"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "dtype: float32", "with the architecture of Qwen"),
    ],
)
def test_rows_with_images_are_certified(folder, monkeypatch, origin, policy, named):
    """Forests of rows that show images give what rows alone give, gradients of the encoder too, and share them."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder.write(r__yaml=RECIPE.format(origin=origin, policy=policy), x__jsonl="")
    ended = folder.call("certify", "r.yaml", "--format", "json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert found["equal"]
    assert named in found["model"]
    assert max(found["max_logprob_error"], found["max_gradient_error"]) < 1e-5
    assert found["token_ratio"] > 1.5

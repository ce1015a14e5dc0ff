"""`recipec certify`: shared prefixes against rows alone, on this machine and for this recipe."""

import json

import pytest
from support.small_recipes import MODEL, rows

from recipec.runtime.attention.kernels import flash_merge

RECIPE = f"""\
recipec: 1
name: small
stages:
  explore:
    kind: rl
{MODEL}\
    data: {{path: a.jsonl, max_length: 24}}
    sampler: {{num_generations: 4, max_completion_length: 8}}
    reward: {{right: {{type: exact_match}}}}
    advantage: {{group: {{type: group_relative}}}}
    loss: {{type: clipped}}
    attention: {{type: trie}}
    optimizer: {{learning_rate: 1.0e-3}}
    budget: {{steps: 2, prompts_per_step: 2}}
"""
HUB = """\
recipec: 1
name: hub
stages:
  align:
    kind: dpo
    from: Qwen/Qwen2.5-3B
    policy: {dtype: bfloat16}
    data: {path: a.jsonl, max_length: 64}
    optimizer: {learning_rate: 1.0e-6}
    budget: {steps: 2, pairs_per_step: 2}
"""
KEYS = {"equal", "max_logprob_error", "max_gradient_error", "token_ratio", "ideal_speedup", "measured_speedup"}


def certify(folder, recipe, *args):
    """Certify a recipe; return how it ended and what was found."""
    folder.write(r__yaml=recipe)
    ended = folder.call("certify", "r.yaml", "--format", "json", *args)
    return ended, json.loads(ended.out) if ended.out else {}


def test_a_recipe_is_certified(folder):
    """Equal to rounding, with what it saves; nobody has to have run it."""
    ended, found = certify(folder, RECIPE)
    assert ended.code == 0, ended.err
    assert found.keys() >= KEYS
    assert found["equal"] is True
    assert found["precision"] == "float64"
    assert found["max_logprob_error"] < 1e-12
    assert found["max_gradient_error"] < 1e-6  # norms of the model itself compute in float32
    assert found["token_ratio"] > 1.5
    assert 1 < found["ideal_speedup"] < 4
    assert found["activation_bytes"] < found["dense_activation_bytes"]
    lines = folder.call("certify", "r.yaml")
    assert lines.code == 0
    assert lines.out.splitlines()[0].split() == ["stage", "explore"]


def test_a_model_that_is_not_here_has_a_small_one_stand_in(folder):
    """The architecture is certified in bfloat16, too: the tree's error is the dense one's."""
    ended, found = certify(folder, HUB)
    assert ended.code == 0, ended.err
    assert "a small model with the architecture of Qwen/Qwen2.5-3B" in found["model"]
    assert found["low_precision_error_ratio"] < 1.15


def test_recorded_rows_are_counted_exactly(folder):
    """Rows that a run kept: two answers of two tokens to a prompt of four; the last token of a row is not computed."""
    kept = rows(
        *(
            {"prompt_ids": [5, 6, 7, 8], "ids": [9, last], "text": "", "reward": 0.0, "step": 0, "prompt_id": 0}
            for last in (10, 11)
        ),
        {"prompt_ids": [5, 6, 7, 8], "ids": [12, 13], "text": "", "reward": 0.0, "step": 0, "prompt_id": 0},
    )
    folder.write(rows__jsonl=kept)
    ended, found = certify(folder, RECIPE, "--rows", "rows.jsonl")
    assert ended.code == 0, ended.err
    assert found["token_ratio"] == pytest.approx(15 / 6)


def test_a_difference_ends_with_1(folder, monkeypatch):
    """A kernel that is off is told, not hidden."""
    original = flash_merge.attend
    monkeypatch.setattr(flash_merge, "attend", lambda *args: original(*args) * 1.1)
    folder.monkeypatch.setattr("recipec.runtime.attention.certification.run.TOLERANCE", 1.0)
    ended, found = certify(folder, RECIPE)
    assert (ended.code, found["equal"]) == (1, False)


@pytest.mark.parametrize(
    ("recipe", "args", "code"),
    [
        (RECIPE, ["--stage", "exploit"], "RC798"),
        (RECIPE, ["--rows", "none.jsonl"], "RC797"),
        (RECIPE, ["--rows", "bad.jsonl"], "RC836"),
        (HUB.replace("Qwen/Qwen2.5-3B", "nobody/knows"), [], "RC836"),
    ],
)
def test_what_cannot_be_certified_has_a_code(folder, recipe, args, code):
    """No such stage, no rows, rows without tokens, a model of which nothing is known."""
    folder.write(bad__jsonl=rows({"reward": 1.0, "text": "x"}))
    ended, _ = certify(folder, recipe, *args)
    assert (ended.code, ended.first) == (1, code), ended.err

"""Rows made up from a recipe have what its rows have in common, and no more."""

from support.built_recipes import part, recipe, rl

from recipec.lowering.lower import lower
from recipec.runtime.attention import prefix_tree
from recipec.runtime.attention.certification.sample_rows import random_rows


def ratio(history: str | int, sampler: dict[str, object]) -> float:
    """Token ratio of step rows under a window or the whole history."""
    world = part("environment", "textworld", max_turns=4, history=history)
    stage = rl(
        environment=world,
        data=part("data", "file", path="a.jsonl", max_length=64),
        sampler=part("sampler", "chain", rows="step", max_turn_length=16, max_completion_length=400, **sampler),
    )
    (made,) = lower(recipe(a=stage)).stages
    batch = random_rows(made, 1 << 14, 100, 4096)
    tree = prefix_tree.build(batch["tokens_RT"].numpy(), batch["attend_RT"].sum(-1).numpy())
    return tree.dense_tokens / tree.size


def test_windows_share_less_than_histories():
    """Turns behind the whole history share nearly all of it; behind a window, the stem and equal histories alone."""
    chain = {"num_generations": 4}
    whole, window = ratio("append_only", chain), ratio(2, chain)
    assert whole > 1.4 * window
    assert 1.0 < window < 2.0

"""Recipes built in Python, for tests of the passes that come after reading."""

from typing import Any

from recipec.component import Component, find_component
from recipec.spec.recipe import Budget, Recipe, Stage


def part(slot: str, name: str, /, **params: Any) -> Component:
    """One component."""
    cls = find_component(slot, name)
    assert cls is not None
    return cls(**params)


def sft(origin: str = "scratch", **more: Any) -> Stage:
    """A stage that imitates."""
    said: dict[str, Any] = {
        "kind": "sft",
        "from": origin,
        "data": part("data", "file", path="a.jsonl", max_length=64),
        "optimizer": part("optimizer", "adamw"),
        "budget": Budget(steps=5, rows_per_step=4),
    }
    return Stage(**said | more)


def rl(origin: str = "org/name", **more: Any) -> Stage:
    """A stage that explores, one update a step."""
    said: dict[str, Any] = {
        "kind": "rl",
        "from": origin,
        "data": part("data", "reasoning_gym", task="chain_sum", size=10, max_length=32),
        "sampler": part("sampler", "chain", num_generations=4, max_completion_length=16),
        "reward": {"right": part("reward", "verifier")},
        "advantage": {"group": part("advantage", "group_relative")},
        "loss": part("loss", "clipped"),
        "optimizer": part("optimizer", "adamw"),
        "budget": Budget(steps=5, prompts_per_step=2),
    }
    return Stage(**said | more)


def dpo(origin: str = "org/name", **more: Any) -> Stage:
    """A stage that prefers."""
    said: dict[str, Any] = {
        "kind": "dpo",
        "from": origin,
        "data": part("data", "file", path="pairs.jsonl", max_length=64),
        "budget": Budget(epochs=2, pairs_per_step=4),
    }
    return Stage(**said | more)


def scratch(**more: Any) -> Component:
    """A new model."""
    return part("policy", "causal_lm", scratch={"hidden_size": 32, "layers": 2, "heads": 2}, **more)


def recipe(**stages: Stage) -> Recipe:
    """A recipe of stages."""
    return Recipe(recipec=1, name="small", stages=stages)


def three() -> Recipe:
    """Imitate, explore, prefer."""
    pairs = part("preference", "best_vs_worst", rollouts="explore.rollouts")
    return recipe(warm=sft(policy=scratch()), explore=rl("warm"), align=dpo("explore", data=None, preference=pairs))

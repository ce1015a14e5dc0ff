"""The public API as a program of somebody else uses it: never run, read by the type checker under ``make types``."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import recipec
from recipec import (
    Adamw,
    Budget,
    CausalLm,
    Chain,
    Clipped,
    Diagnostic,
    Evaluation,
    ExactMatch,
    File,
    GroupRelative,
    Machine,
    Recipe,
    RecipeError,
    Scratch,
    Stage,
)
from recipec.compile import Compiled, compile_model, compile_recipe
from recipec.graph import Graph

policy = CausalLm(dtype="bfloat16", scratch=Scratch(hidden_size=64, layers=2, heads=2))
explore = Stage(
    kind="rl",
    from_="scratch",
    policy=policy,
    data=File(path="tasks.jsonl", max_length=64),
    sampler=Chain(num_generations=4, max_completion_length=16),
    reward={"right": ExactMatch(answer="solution")},
    advantage={"group": GroupRelative(scale="none")},
    loss=Clipped(epsilon=0.2, epsilon_high=0.28),
    optimizer=Adamw(learning_rate=1e-4),
    budget=Budget(steps=10, prompts_per_step=4),
)
recipe = Recipe(
    recipec=1,
    name="mine",
    stages={"explore": explore},
    evaluate={"dev": Evaluation(data=File(path="dev.jsonl"), every=5)},
    machine=Machine(device="cpu"),
)


def main(path: Path) -> Graph:
    """Load, change, compile."""
    loaded = assert_type(recipec.load(path, ["seed=1"]), Recipe)
    assert_type(loaded.stages["explore"].budget.steps, int | None)
    assert_type(recipec.to_yaml(recipec.from_yaml(recipec.to_yaml(recipe)), minimal=False), str)
    try:
        compiled = assert_type(compile_recipe(path), Compiled)
    except RecipeError as refused:
        assert_type(refused.diagnostics, tuple[Diagnostic, ...])
        raise
    for diagnostic in compiled.diagnostics:
        assert_type(diagnostic.code, str)
        assert_type(diagnostic.spans[0].line, int)
    graph = compiled.graph or compile_model(recipe).graph
    assert graph is not None
    return assert_type(graph, Graph)


def refused() -> Clipped:
    """What the model refuses, the type checker refuses, too: a parameter that does not exist."""
    return Clipped(epsilonn=0.1)  # type: ignore[call-arg]

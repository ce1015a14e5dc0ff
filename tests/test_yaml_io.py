"""Recipes built in Python: the same models, the same text, the same graph."""

import subprocess
import sys
from typing import get_args

import pytest

import recipec
from recipec import (
    Adamw,
    Budget,
    CausalLm,
    Chain,
    Clipped,
    Evaluation,
    ExactMatch,
    File,
    GroupRelative,
    Lora,
    Nll,
    ReasoningGym,
    Recipe,
    RecipeError,
    Scratch,
    Stage,
    Verifier,
)
from recipec.compile import compile_graph, compile_model, compile_recipe
from recipec.component import Component, components_of
from recipec.graph import to_json
from recipec.lowering.lower import lower
from recipec.spec.data import EnvironmentTasks
from recipec.spec.environment import Webshop
from recipec.spec.recipe import COMPONENT_SLOTS, SLOTS
from recipec.spec.reward import Environment
from recipec.yaml_io import from_yaml, load, to_yaml

TEXT = """\
recipec: 1
name: two
seed: 7
vars: {lr: 1e-3}
stages:
  learn:
    kind: sft
    from: scratch
    data: {path: data/a.jsonl, max_length: 64}
    policy: {lora: {r: 4}, scratch: {hidden_size: 64, layers: 2, heads: 2}}
    optimizer: {learning_rate: "${vars.lr}"}
    budget: {steps: 5, rows_per_step: 4}
  explore:
    kind: rl
    from: learn
    adapter: continue
    data: {type: reasoning_gym, task: chain_sum, size: 10, max_length: 32}
    sampler: {num_generations: 8, max_completion_length: 16}
    reward: {right: {type: verifier}}
    advantage: {group: {type: group_relative}}
    loss: {type: clipped, beta: 0.01}
    optimizer: {}
    budget: {steps: 5, prompts_per_step: 8}
evaluate:
  held: {data: {path: b.jsonl, max_length: 32}, reward: {right: {type: exact_match}}}
"""


def built() -> Recipe:
    """The same recipe, in Python."""
    learn = Stage(
        kind="sft",
        from_="scratch",
        data=File(path="data/a.jsonl", max_length=64),
        policy=CausalLm(lora=Lora(r=4), scratch=Scratch(hidden_size=64, layers=2, heads=2)),
        optimizer=Adamw(learning_rate=1e-3),
        budget=Budget(steps=5, rows_per_step=4),
    )
    explore = Stage(
        kind="rl",
        from_="learn",
        adapter="continue",
        data=ReasoningGym(task="chain_sum", size=10, max_length=32),
        sampler=Chain(num_generations=8, max_completion_length=16),
        reward={"right": Verifier()},
        advantage={"group": GroupRelative()},
        loss=Clipped(beta=0.01),
        optimizer=Adamw(),
        budget=Budget(steps=5, prompts_per_step=8),
    )
    held = Evaluation(data=File(path="b.jsonl", max_length=32), reward={"right": ExactMatch()})
    return Recipe(recipec=1, name="two", seed=7, stages={"learn": learn, "explore": explore}, evaluate={"held": held})


def test_text_and_python_are_the_same_recipe():
    """What is left out has the same defaults in both, the loss of an sft stage among them."""
    assert from_yaml(TEXT) == built()
    assert built().stages["learn"].loss == Nll()


def test_text_and_python_compile_to_the_same_bytes(tmp_path):
    """The graph as JSON is byte-identical, from the file, the models, and the text that the models write."""
    file = tmp_path / "two.yaml"
    file.write_text(TEXT)
    from_file = compile_recipe(file)
    assert [d for d in from_file.diagnostics if d.is_error] == []
    expected = to_json(from_file.graph)
    assert to_json(compile_graph(built())) == expected
    assert to_json(compile_model(built()).graph) == expected
    assert to_json(compile_graph(from_yaml(to_yaml(built(), minimal=False)))) == expected


def test_minimal_text_says_what_differs_and_every_type():
    """A component at its defaults is its type; full text has every parameter that is set, and nothing absent."""
    text = to_yaml(built())
    assert "optimizer: {type: adamw, learning_rate: 0.001}" in text
    assert "    optimizer: {type: adamw}\n" in text
    assert "weight_decay" not in text
    full = to_yaml(built(), minimal=False)
    assert "weight_decay: 0.0" in full
    assert "null" not in full
    assert "from_" not in full


def test_a_file_is_loaded_with_overrides(tmp_path):
    """`load` takes what the command line takes."""
    (tmp_path / "two.yaml").write_text(TEXT)
    assert load(tmp_path / "two.yaml", ["seed=9"]).seed == 9


def test_a_bad_text_is_refused_with_its_diagnostics():
    """`from_yaml` raises what reading found, with codes and places."""
    with pytest.raises(RecipeError) as refused:
        from_yaml(TEXT.replace("beta", "betta"))
    assert [(d.code, d.spans[0].file) for d in refused.value.diagnostics] == [("RC130", "<python>")]


def test_a_component_goes_into_its_own_slot():
    """A component of another slot is refused where the stage is built."""
    with pytest.raises(ValueError, match="`chain` fills the slot `sampler`, and not `optimizer`"):
        Stage(kind="sft", from_="a", data=File(path="a"), optimizer=Chain(), budget=Budget(steps=1, rows_per_step=1))


def test_recipes_cannot_be_changed():
    """A recipe is frozen: a variant is another recipe."""
    with pytest.raises(ValueError, match="frozen"):
        built().seed = 1


def test_every_component_can_be_imported_by_its_name():
    """`recipec.NAME` is there for each component, and no two share a name."""
    classes = [cls for slot in COMPONENT_SLOTS for cls in components_of(slot).values()]
    assert len({cls.__name__ for cls in classes}) == len(classes)
    for cls in classes:
        assert getattr(recipec, cls.__name__) is cls
        assert cls.__name__ in dir(recipec)


def test_defaults_have_the_type_of_their_knob():
    """A float's default is a float: in JSON, 16 and 16.0 are different bytes."""
    for slot in SLOTS:
        for cls in components_of(slot.name).values():
            for name, info in cls.model_fields.items():
                assert not (info.annotation is float and isinstance(info.default, int)), f"{cls.__name__}.{name}"


def test_no_knob_needs_a_null():
    """`null` removes, so a parameter that may be None has None for its default."""
    for slot in SLOTS:
        for cls in components_of(slot.name).values():
            for name, info in cls.model_fields.items():
                nullable = type(None) in get_args(info.annotation)
                assert not nullable or info.default is None, f"{cls.__name__}.{name}"


def test_importing_the_package_imports_nothing_else():
    """`import recipec` loads none of pydantic, yaml and torch."""
    code = "import sys, recipec; print(*{'pydantic', 'yaml', 'torch', 'omegaconf'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    """The lazy names behave as others do."""
    with pytest.raises(AttributeError, match="Chian"):
        _ = recipec.Chian


def test_components_say_what_they_are():
    """A component's plain data is what a file says, with its type first."""
    assert issubclass(Chain, Component)
    assert Chain(num_generations=4).plain() == {"type": "chain", "num_generations": 4}


def test_an_evaluation_has_an_environment_in_both():
    """The environment of an evaluation survives text and back, and is that of the first rl stage where none is said."""
    stage = Stage(
        kind="rl",
        from_="scratch",
        policy=CausalLm(scratch=Scratch(hidden_size=64, layers=2, heads=2)),
        data=EnvironmentTasks(),
        environment=Webshop(),
        sampler=Chain(rows="step"),
        reward={"won": Environment()},
        advantage={"group": GroupRelative()},
        loss=Clipped(),
        optimizer=Adamw(),
        budget=Budget(steps=5, prompts_per_step=8),
    )
    own = Evaluation(data=EnvironmentTasks(split="test"), environment=Webshop(max_turns=3))
    shared = Evaluation(data=EnvironmentTasks(split="test"))
    recipe = Recipe(recipec=1, name="shop", stages={"play": stage}, evaluate={"own": own, "shared": shared})
    assert from_yaml(to_yaml(recipe)) == recipe
    found = lower(recipe).evaluate
    assert [found[name]["environment"]["max_turns"] for name in ("own", "shared")] == [3, 15]
    assert list(found["shared"]["reward"]) == ["won"]

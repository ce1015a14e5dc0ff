"""The schemas are those that are shipped, say nothing wrong of shipped recipes, and explain every key."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from recipec.catalogue import json_schema
from recipec.component import component_names
from recipec.language.yaml_reader import read_source
from recipec.spec.recipe import COMPONENT_SLOTS

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "recipes").rglob("*.yaml"))


@functools.cache
def validator(which: str) -> jsonschema.Draft202012Validator:
    """What an editor holds a file against."""
    return jsonschema.Draft202012Validator(json_schema.schema(which))


def errors(data: dict[str, Any]) -> list[str]:
    """What an editor would underline."""
    which = "recipe" if "stages" in data else "fragment"
    return [error.message for error in validator(which).iter_errors(data)]


def rl(**more: Any) -> dict[str, Any]:
    """A small recipe."""
    stage = {
        "kind": "rl",
        "from": "org/name",
        "data": {"path": "a.jsonl"},
        "sampler": {"num_generations": 4},
        "reward": {"right": {"type": "exact_match"}},
        "advantage": {"group": {"type": "group_relative"}},
        "loss": {"type": "clipped", "epsilon": 0.2},
        "budget": {"steps": 3, "prompts_per_step": 2},
    }
    return {"recipec": 1, "name": "small", "stages": {"explore": stage | more}}


@pytest.mark.parametrize("which", json_schema.NAMES)
def test_drift(which: str) -> None:
    """The files under schemas/ are what the models say today: `recipec schema --write schemas` makes them so."""
    assert (ROOT / "schemas" / f"{which}.schema.json").read_text(encoding="utf-8") == json_schema.text(which)


@pytest.mark.parametrize("which", json_schema.NAMES)
def test_schemas_are_schemas(which: str) -> None:
    """Each is a valid schema of draft 2020-12."""
    jsonschema.Draft202012Validator.check_schema(json_schema.schema(which))


def test_unknown_name() -> None:
    """There is no text of a schema that does not exist."""
    assert json_schema.text("model") is None


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped(path: Path) -> None:
    """No editor underlines anything in a shipped recipe or fragment, and each names its schema in its first line."""
    root = read_source(path).root
    assert root is not None
    assert errors(root.plain()) == []
    which = "recipe" if "stages" in root.plain() else "fragment"
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert (
        first
        == f"# yaml-language-server: $schema={'../' * len(path.relative_to(ROOT).parts[1:])}schemas/{which}.schema.json"
    )


def params(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of every object, by where it stands."""
    if isinstance(node, dict):
        for name, param in node.get("properties", {}).items():
            yield f"{place}.{name}", param
        for key, value in node.items():
            yield from params(value, f"{place}.{key}")
    elif isinstance(node, list):
        for value in node:
            yield from params(value, place)


@pytest.mark.parametrize("which", ["recipe", "fragment"])
def test_every_key_has_a_description(which: str) -> None:
    """Whoever hovers over a key reads what it is."""
    bare = [place for place, param in params(json_schema.schema(which)) if not param.get("description")]
    assert bare == []


def test_every_type_can_be_completed() -> None:
    """Beside its choices each slot lists the names of all components, and every definition has a title for hovers."""
    found = json_schema.schema("recipe")["$defs"]
    for slot in COMPONENT_SLOTS:
        assert found[slot]["properties"]["type"]["enum"] == component_names(slot)
    assert found["reward.function"]["title"] == "reward function"
    assert found["loss.clipped"]["properties"]["epsilon"]["description"].endswith("Default: `0.2`.")


def test_descriptions_include_units() -> None:
    """The description of a key includes its unit."""
    chain = json_schema.schema("recipe")["$defs"]["sampler.chain"]["properties"]
    assert (
        chain["max_completion_length"]["description"]
        == "Maximum length of a completion; with an environment, of a turn. Unit: tokens. Default: `256`."
    )


def test_plain() -> None:
    """A recipe without an interpolation or an extension is fine."""
    assert errors(rl()) == []


@pytest.mark.parametrize(
    "more",
    [
        {"loss": {"type": "clipped", "epsilon": "${vars.epsilon}"}},
        {"budget": {"steps": "${vars.steps}", "prompts_per_step": 2}},
        {"data": {"path": "a.jsonl", "shuffle": "${vars.shuffle}"}},
        {"loss": {"type": "clipped", "ratio": "${vars.ratio}"}},
        {"loss": "${vars.loss}"},
        {"optimizer": {"betas": ["${vars.beta}", 0.9]}},
        {"reward": {"right": {"weight": 2}}},
        {"extends": ["recipec:algorithms/grpo"], "loss": {"epsilon": 0.1}},
        {"loss": {"type": "clipped", "dual_clip": None}},
        {"data": {"size": 10}},
    ],
)
def test_no_false_alarm(more: dict[str, Any]) -> None:
    """What an interpolation or an extended file may bring is not underlined."""
    assert errors(rl(**more)) == []


@pytest.mark.parametrize(
    "more",
    [
        {"loss": {"type": "clipped", "epsilonn": 0.2}},
        {"loss": {"type": "clipped", "epsilon": 1.5}},
        {"loss": {"type": "clipped", "epsilon": "small"}},
        {"loss": {"type": "clippd"}},
        {"loss": {"epsilonn": 0.2}},
        {"budget": {"steps": 0}},
        {"preference": {"type": "best_vs_worst", "rollouts": "a.rollouts"}},
        {"data": {"type": "reasoning_gym", "task": "chain_sum"}},
        {"kind": "grpo"},
    ],
)
def test_mistakes_are_found(more: dict[str, Any]) -> None:
    """Wrong names, types, bounds, slots and missing parameters are underlined."""
    assert errors(rl(**more)) != []


def test_fragments_demand_nothing() -> None:
    """A fragment may hold a part of anything, and nothing unknown."""
    assert errors({"recipec": 1, "data": {"type": "reasoning_gym"}}) == []
    assert errors({"recipec": 1, "budget": {"updates_per_step": 1}, "seed": 3}) == []
    assert errors({"recipec": 1, "losss": {}}) != []

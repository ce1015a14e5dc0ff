"""A graph keeps its bytes, obeys its grammar, tells what changed, and can be drawn."""

import dataclasses
import json

import jsonschema
import pytest
from support.built_recipes import dpo, part, recipe, rl, scratch, sft, three

from recipec import graph_drawing
from recipec.catalogue import json_schema
from recipec.graph import Graph, Loop, Node, differences, from_json, to_json
from recipec.lowering.grammar import verify
from recipec.lowering.lower import lower
from recipec.lowering.optimise import optimise
from recipec.spec.recipe import Budget, Recipe


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Three stages, optimised."""
    return optimise(lower(three()))


def changed(graph: Graph, node: str, **more: object) -> Graph:
    """The graph with one node changed."""

    def inside(item: Node | Loop) -> Node | Loop:
        if isinstance(item, Loop):
            return dataclasses.replace(item, body=tuple(inside(inner) for inner in item.body))
        return dataclasses.replace(item, **more) if item.id == node else item

    stages = tuple(dataclasses.replace(stage, loop=inside(stage.loop)) for stage in graph.stages)
    return dataclasses.replace(graph, stages=stages)


def test_round_trip(graph: Graph) -> None:
    """JSON gives the same graph back, and the same bytes."""
    again = from_json(to_json(graph))
    assert again == graph
    assert to_json(again) == to_json(graph)


def test_schema(graph: Graph) -> None:
    """The JSON of a graph is what its schema says."""
    jsonschema.Draft202012Validator(json_schema.schema("graph")).validate(json.loads(to_json(graph)))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "stages": [{}]}'])
def test_no_graph(text: str) -> None:
    """What is no graph of this version is refused by an ordinary error."""
    with pytest.raises((ValueError, KeyError, TypeError)):
        from_json(text)


def test_grammar_holds(graph: Graph) -> None:
    """A lowered graph and an optimised one obey the grammar."""
    assert verify(graph) is graph
    verify(lower(three()))


@pytest.mark.parametrize(
    ("node", "more", "words"),
    [
        ("explore/broadcast.advantage_RT", {"id": "explore/sampler"}, "used twice"),
        ("explore/weigh", {"outputs": ("wait_RT",)}, "not a signal"),
        ("explore/weigh", {"digest": ""}, "no digest"),
        ("explore/sum.advantage_R", {"outputs": ()}, "not made before"),
    ],
)
def test_grammar_is_checked(graph: Graph, node: str, more: dict[str, object], words: str) -> None:
    """Each broken rule is named."""
    with pytest.raises(TypeError, match=words):
        verify(changed(graph, node, **more))


def test_axes_are_checked(graph: Graph) -> None:
    """A row's credit cannot fill a token's parameter: the broadcast is a node, never silent."""
    loss = next(node for node in graph.stage("explore").nodes() if node.slot == "loss")
    total = next(n.value for n in _inputs(graph, "explore/broadcast.advantage_RT") if n.parameter == "advantage_R")
    bound = tuple(dataclasses.replace(i, value=total) if i.parameter == "advantage_RT" else i for i in loss.inputs)
    with pytest.raises(TypeError, match="axes differ"):
        verify(changed(graph, loss.id, inputs=bound))


def _inputs(graph: Graph, node: str):
    return next(n for stage in graph.stages for n in stage.nodes() if n.id == node).inputs


def test_carries_are_checked(graph: Graph) -> None:
    """A loop that forgets its weights is no training loop."""
    stage = graph.stages[0]
    broken = dataclasses.replace(stage, loop=dataclasses.replace(stage.loop, carries=("optimizer",)))
    with pytest.raises(TypeError, match="carries neither"):
        verify(dataclasses.replace(graph, stages=(broken,), consumed={}))


def test_unread_key(graph: Graph) -> None:
    """A key that no node read is our mistake, and is named."""
    verify(graph, keys=["stages.explore.loss.epsilon", "vars.rate", "stages.explore.loss"])
    with pytest.raises(TypeError, match=r"nothing read the key `stages.explore.loss.epsilom`"):
        verify(graph, keys=["stages.explore.loss.epsilom"])


def test_readers_exist(graph: Graph) -> None:
    """A key cannot be read by what is not there."""
    with pytest.raises(TypeError, match="not there"):
        verify(dataclasses.replace(graph, consumed={"seed": "nobody"}))


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        (three(), three(), []),
        (recipe(a=rl()), recipe(a=rl(loss=part("loss", "clipped", epsilon=0.1))), ["stages.a.loss.epsilon"]),
        (recipe(a=dpo()), recipe(a=dpo(loss=part("loss", "dpo", beta=0.3))), ["stages.a.loss.beta"]),
        (recipe(a=rl()), recipe(a=rl("org/other")), ["stages.a.from"]),
        (recipe(a=rl()), recipe(a=rl(budget=Budget(steps=6, prompts_per_step=2))), ["stages.a.budget.steps"]),
        (recipe(a=rl()), recipe(a=rl(budget=Budget(steps=5, prompts_per_step=2, keep=3))), []),
        (recipe(a=rl()), recipe(a=rl(), b=sft("a")), ["stages.b"]),
        (recipe(a=rl()), recipe(a=rl(reference=part("reference", "frozen"))), []),
        (
            recipe(a=rl()),
            recipe(a=rl(reward={"right": part("reward", "verifier"), "short": part("reward", "length", max_length=9)})),
            ["stages.a.reward.short"],
        ),
        (
            recipe(a=rl()),
            recipe(a=rl(advantage={"group": part("advantage", "rloo")})),
            ["stages.a.advantage.group.type"],
        ),
        (
            recipe(a=sft(policy=scratch()), b=sft("a")),
            recipe(a=sft(policy=scratch(dtype="bfloat16")), b=sft("a")),
            ["stages.a.policy.dtype"],
        ),
    ],
)
def test_differences(before: Recipe, after: Recipe, keys: list[str]) -> None:
    """Whoever changed a recipe is told the key; what means the same is no difference."""
    assert differences(optimise(lower(before)), optimise(lower(after))) == keys


def test_seed_is_a_difference() -> None:
    """Another seed is another run."""
    assert differences(lower(three()), lower(three().model_copy(update={"seed": 1}))) == ["seed"]


def test_pictures(graph: Graph) -> None:
    """Every node is in the tree and in the chart, and skipped work is listed."""
    tree, chart = graph_drawing.to_text(graph), graph_drawing.to_mermaid(graph)
    for stage in graph.stages:
        for node in stage.nodes():
            name = node.id.partition("/")[2]
            assert name in tree
            assert f'"{name}<br/>{node.type}"' in chart
    assert "skipped: old-policy forward pass" in tree
    assert chart.count("subgraph") == chart.count("\n  end") + chart.count("    end") == 9
    assert "s0 -->|policy| s1" in chart

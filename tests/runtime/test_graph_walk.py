"""Running is walking the graph: what a function gets comes from a node, the stage's context or its spec."""

from __future__ import annotations

import dataclasses
import inspect
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.running_stages import running
from support.small_recipes import RL, SFT

from recipec.compile import compile_recipe
from recipec.component import load_object
from recipec.graph import Loop, Value
from recipec.runtime.graph_runner import GraphRunner, arguments
from recipec.runtime.stage import loop

RECIPES = Path(__file__).parents[2] / "recipes"
SHIPPED = sorted(path for path in RECIPES.rglob("*.yaml") if path.parent.name != "algorithms")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_every_parameter_has_a_source(path: Path) -> None:
    """A function is called with its inputs and its parameters; a class is built from parts and decisions."""
    graph = compile_recipe(path).graph
    assert graph is not None
    for stage in graph.stages:
        known = {node.id for node in (*stage.setup, *stage.nodes())}
        for node in (*stage.setup, *stage.nodes()):
            assert {given.value.node for given in (*node.inputs, *node.parts)} <= known
            if not node.impl:  # engines of a later version
                continue
            target = load_object(node.impl)
            names = inspect.signature(target).parameters
            keywords = {name for name, one in names.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}
            if inspect.isclass(target):
                assert node.spec is not None
                assert list(names)[:2] == ["spec", "context"], node.id
                assert keywords <= {*node.spec.uses, "choice", "reason", "leader"}, node.id
                uses = {"policy"} if node.id.endswith("/old") else set(node.spec.uses)  # a pass scores with the policy
                if "divergence_RT" in node.outputs:  # the policy is compared with a teacher
                    uses |= {"reference"}
                assert {given.parameter for given in node.parts} <= uses, node.id
            else:
                columns = arguments(node, dict.fromkeys(given.value for given in node.inputs))
                inspect.signature(target).bind(**columns, **(node.params if node.spec is None else node.spec.params()))


@pytest.mark.parametrize("recipe", [SFT, RL], ids=["sft", "rl"])
def test_every_value_of_a_step_comes_from_the_node_that_the_graph_names(tmp_path, monkeypatch, recipe) -> None:
    """Each column that a node is called with is the very object that the named node made, or was drawn."""
    made: dict[Value, set[int]] = {}
    alive: list[Any] = []  # an id is only that of an object that still exists
    checked: list[str] = []
    original = GraphRunner.call

    def call(runner: GraphRunner, node: Any, values: Any, **keys: Any) -> Any:
        for given in node.inputs:
            assert id(values[given.value]) in made[given.value], f"{node.id} got another {given.value}"
        found = original(runner, node, values, **keys)
        for signal in node.outputs:
            made.setdefault(Value(signal, node.id), set()).add(id(values[Value(signal, node.id)]))
        alive.append(dict(values))
        checked.append(node.slot)
        return found

    with ExitStack() as closing:
        stage = running(tmp_path, recipe, closing)
        once, update = loop.nodes_of(stage.graph.loop)
        drawn = loop.draw(stage)
        source = loop.data_node(stage, drawn)
        values = {Value(signal, source.id): column for signal, column in drawn.items()}
        made |= {value: {id(column)} for value, column in values.items()}
        alive.append(drawn)
        monkeypatch.setattr(GraphRunner, "call", call)
        nodes = [node for node in once if node.id != source.id]
        stage.runner.run(nodes, values, step=0)
        stage.train_engine.begin(1)
        columns = loop.build_batch(values, update)
        made |= {Value(s, n): {id(c) for c in (columns[s],)} | made.get(Value(s, n), set())
                 for node in update for i in node.inputs for s, n in [(i.value.signal, i.value.node)]
                 if s in columns}  # fmt: skip
        monkeypatch.setattr(GraphRunner, "call", original)
        stage.train_engine.update(columns, update, stage.runner, tokens=4096, step=0)

    assert checked == [node.slot for node in nodes]


@pytest.mark.parametrize("recipe", [SFT, RL], ids=["sft", "rl"])
def test_parts_are_the_instances_of_their_nodes(tmp_path, recipe) -> None:
    """What an instance was built of is what stands behind the nodes that the graph names as its parts."""
    with ExitStack() as closing:
        stage = running(tmp_path, recipe, closing)
        built = 0
        for node in (*stage.graph.setup, *stage.graph.nodes()):
            if node.id in stage.runner.instances and node.slot != "policy":
                held = {id(value) for value in vars(stage.runner.instances[node.id]).values()}
                for given in node.parts:
                    assert id(stage.runner.instances[given.value.node]) in held, f"{node.id}: {given.parameter}"
                    built += 1
        assert built >= 3


def test_a_context_cannot_change(tmp_path) -> None:
    """A stage's context is the same from its first step to its last."""
    with ExitStack() as closing:
        stage = running(tmp_path, SFT, closing)
        for name in ("seed", "stage", "temperature", "device"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(stage.context, name, None)


def test_updates_stand_in_the_loop(tmp_path) -> None:
    """The last item of a stage's loop is the loop over updates, which ends in the optimizer."""
    with ExitStack() as closing:
        stage = running(tmp_path, RL, closing)
        update = stage.graph.loop.body[-1]
        assert isinstance(update, Loop)
        assert [node.slot for node in update.body][-1] == "optimizer"

"""Text and Python compile to the same bytes, mistakes end in diagnostics, and shipped recipes compile."""

from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from support.built_recipes import dpo, part, recipe, rl, scratch, sft, three

from recipec.compile import compile_graph, compile_model, compile_recipe
from recipec.graph import is_read, to_json
from recipec.spec.recipe import Recipe
from recipec.yaml_io import to_yaml

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "recipes").rglob("*.yaml"))
SMALL = """\
recipec: 1
name: small
vars: {e: 0.1}
stages:
  explore:
    kind: rl
    from: org/name
    extends: [recipec:algorithms/grpo]
    data: {path: a.jsonl, max_length: 100}
    reward: {right: {type: exact_match}}
    loss: {epsilon: "${vars.e}", dual_clip: null}
    sampler: {stop: [a, b], num_generations: 4}
    budget: {steps: 3, prompts_per_step: 2}
"""


@pytest.mark.parametrize(
    "built",
    [
        three(),
        recipe(a=rl(reward={"z": part("reward", "verifier", weight=0.3), "a": part("reward", "length", max_length=9)})),
        recipe(a=sft(policy=scratch(lora={"r": 2})), b=dpo("a", adapter="continue")),
    ],
)
def test_text_and_python(built: Recipe) -> None:
    """A recipe built in Python and its text compile to the same bytes."""
    graph = to_json(compile_graph(built))
    for found in (compile_model(built), compile_recipe("r.yaml", text=to_yaml(built))):
        assert found.ok
        assert found.graph is not None
        assert to_json(found.graph) == graph


@pytest.mark.parametrize("built", [three(), recipe(a=rl())])
def test_every_default_written_out(built: Recipe) -> None:
    """A recipe that says every default compiles to the bytes of one that says none."""
    full = compile_recipe("r.yaml", text=to_yaml(built, minimal=False))
    assert full.graph is not None
    assert to_json(full.graph) == to_json(compile_graph(built))


def test_comments_and_order() -> None:
    """Comments, blank lines and the order of keys change no byte."""
    first, *lines = SMALL.splitlines()
    head = lines.index("    kind: rl")
    turned = [first, *lines[:head], *reversed(lines[head:]), "# the end"]
    one, two = compile_recipe("a.yaml", text=SMALL), compile_recipe("b.yaml", text="\n\n".join(turned))
    assert one.graph is not None
    assert two.graph is not None
    assert to_json(one.graph) == to_json(two.graph)


def test_no_silent_key() -> None:
    """Every key that the file gives a value, and every one it extends, is in the graph's map of readers."""
    found = compile_recipe("r.yaml", text=SMALL)
    assert found.graph is not None
    for key in ("vars.e", "stages.explore.loss.epsilon", "stages.explore.loss.kl", "stages.explore.sampler.stop"):
        assert is_read(found.graph, key)


def test_overrides() -> None:
    """The command line changes the graph as the file would."""
    set_there = compile_recipe("r.yaml", ["vars.e=0.3"], text=SMALL)
    said_here = compile_recipe("r.yaml", text=SMALL.replace("0.1", "0.3"))
    assert set_there.graph == said_here.graph is not None


def test_fragment() -> None:
    """A fragment is checked and makes no graph."""
    found = compile_recipe("f.yaml", text="recipec: 1\nloss: {type: clipped}\n")
    assert (found.ok, found.graph) == (True, None)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_shipped(path: Path) -> None:
    """Whatever ships compiles without an error."""
    found = compile_recipe(path)
    assert [d.message for d in found.diagnostics if d.is_error] == []
    assert (found.graph is None) == found.resolved.is_fragment


@given(st.data())
def test_never_raises(data: st.DataObject) -> None:
    """A recipe with a line lost, doubled, moved or maimed ends in diagnostics or in a graph."""
    lines = SMALL.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(lines) - 1))
        match data.draw(st.sampled_from(["drop", "double", "indent", "cut", "swap"])):
            case "drop":
                lines[place] = ""
            case "double":
                lines.insert(place, lines[place])
            case "indent":
                lines[place] = f"  {lines[place]}"
            case "cut":
                lines[place] = lines[place][: data.draw(st.integers(0, max(1, len(lines[place]))))]
            case _:
                words = lines[place].split(" ")
                lines[place] = " ".join(data.draw(st.permutations(words)))
    found = compile_recipe("r.yaml", text="\n".join(lines))
    assert (found.graph is not None) <= found.ok

"""A package outside of recipec brings one component of every slot, and each is treated as one of recipec's own.

The package is in ``site``, as an installer would lay it out; a fixture puts it on the path.
"""

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.small_recipes import ROWS

from recipec import component, graph as graphs
from recipec.catalogue import json_schema
from recipec.compile import compile_recipe
from recipec.host.preflight import components
from recipec.reading import key_places
from recipec.run.inputs import named_packages

SITE = Path(__file__).parent / "site"
RECIPE = """\
recipec: 1
name: small
machine: {rollout: {type: demo, batch: 8}, train: {type: demo}}
trackers: {steps: {type: step_file}}
stages:
  explore:
    kind: rl
    from: scratch
    policy:
      type: causal_lm
      scratch: {architecture: llama, hidden_size: 16, layers: 1, heads: 2, intermediate_size: 32, max_positions: 64}
    data: {path: a.jsonl, max_length: 4}
    environment: {type: counting, max_turns: 2}
    sampler: {type: cooled, num_generations: 4, max_completion_length: 4}
    reward:
      even: {type: even_length}
      world: {type: environment}
    advantage:
      group: {type: ranked}
    loss: {type: unclipped}
    optimizer: {learning_rate: 1.0e-3}
    budget: {steps: 2, prompts_per_step: 2}
  prefer:
    kind: dpo
    from: explore
    preference: {type: longest_vs_shortest, rollouts: explore.rollouts}
    loss: {beta: 0.1}
    optimizer: {learning_rate: 5.0e-5}
    budget: {steps: 1, pairs_per_step: 2}
evaluate:
  held_out:
    data: {path: a.jsonl, max_length: 4}
    environment: {type: counting, max_turns: 2}
    sampler: {max_completion_length: 4}
    reward:
      even: {type: even_length}
"""
NAMES = {
    "advantage": "ranked",
    "environment": "counting",
    "loss": "unclipped",
    "preference": "longest_vs_shortest",
    "reward": "even_length",
    "rollout_engine": "demo",
    "sampler": "cooled",
    "tracker": "step_file",
    "train_engine": "demo",
}
# A component of recipec that samples, computes and stores as much.
TWINS = {
    "type: demo, batch": "type: hf, max_memory: 0, max_rows",
    "type: demo}": "type: local}",
    "cooled": "chain",
    "even_length": "length, max_length: 4",
    "ranked": "group_relative",
    "step_file": "trackio",
    "unclipped": "clipped",
}
# What is changed, what is wrong then, and the code of the diagnostic that points there.
WRONG = [
    ("type: ranked", "type: ranked, weight: high", "high", "RC132"),
    ("type: counting", "type: counting, multiple: 0", "0", "RC132"),
    ("type: unclipped", "type: unclipped, aggregate: all", "all", "RC132"),
    ("explore.rollouts", "explore.rollouts, min_difference: 0", "0", "RC132"),
    ("type: even_length", "type: even_length, even: much", "much", "RC132"),
    ("batch: 8", "batch: none", "none", "RC132"),
    ("type: cooled", "type: cooled, cooling: 2", "2", "RC132"),
    ("type: demo}", "type: demo, zero: 2}", "zero", "RC130"),
    ("type: ranked", "type: ranks", "ranks", "RC131"),
    ("type: demo}", "type: dem}", "dem", "RC131"),
    ("type: step_file", "type: step_file, ending: 3", "3", "RC132"),
    ("type: step_file", "type: step_fil", "step_fil", "RC131"),
    ("type: ranked", "type: ranked, group: by_tree_R", "by_tree_R", "RC204"),
    ("train: {type: demo}", "devices: 8, train: {type: demo}", "8", "RC502"),
]


def on_path(monkeypatch, site):
    """Put a folder of packages on the path."""
    monkeypatch.syspath_prepend(str(site))


def forget():
    """Undo the import of the demo package."""
    for slot, found in component._REGISTRY.items():
        component._REGISTRY[slot] = {
            n: cls for n, cls in found.items() if not cls.__module__.startswith("recipec_demo")
        }
    for name in [name for name in sys.modules if name.partition(".")[0] == "recipec_demo"]:
        del sys.modules[name]
    key_places._places.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Install the demo package."""
    on_path(monkeypatch, SITE)
    yield
    forget()


@pytest.fixture
def demo(installed, folder):
    """Return a folder with the recipe of the demo package and its data."""
    folder.write(r__yaml=RECIPE, a__jsonl=ROWS)
    return folder


def test_a_recipe_of_plug_in_components_is_valid(demo):
    """A recipe that names a component of every slot has no errors and no warnings; implementations are not imported."""
    found = demo.call("validate", "r.yaml")
    assert (found.code, found.err) == (0, "1 file valid\n")
    assert not [name for name in sys.modules if name.startswith("recipec_demo.runtime")]


@pytest.mark.parametrize(("good", "bad", "at", "code"), WRONG, ids=[bad for _, bad, _, _ in WRONG])
def test_a_wrong_value_is_reported_with_its_place(demo, good, bad, at, code):
    """A wrong parameter of a plug-in component has the code, line and column of any wrong parameter."""
    text = RECIPE.replace(good, bad, 1)
    demo.write(r__yaml=text)
    place = text.index(bad) + bad.rindex(at)
    line, column = text.count("\n", 0, place) + 1, place - text.rindex("\n", 0, place)
    found = demo.call("validate", "r.yaml")
    assert (found.code, found.first) == (1, code), found.err
    assert f"--> r.yaml:{line}:{column}\n" in found.err


@pytest.mark.parametrize(
    ("change", "code"),
    [(("num_generations: 4", "num_generations: 1"), "RC402"),
     (("{type: ranked}", "{type: ranked, weight: 0}"), "RC402"),
     (("num_generations: 4", "num_generations: 9"), "RC506"),
     (("num_generations: 4, max", "num_generations: 1, max"), "RC401")],
)  # fmt: skip
def test_checks_apply_by_what_a_spec_declares(demo, change, code):
    """Groups of one, advantages of zero and groups that the engine divides are found by the facts of the specs."""
    text = RECIPE.replace(*change)
    if code == "RC401":
        text = text.replace("{type: ranked}", "{type: ranked}\n      sign: {type: signed}")
    demo.write(r__yaml=text)
    assert f"[{code}]" in demo.call("validate", "r.yaml").err


def test_an_unknown_name_is_compared_with_plug_ins_without_importing_them(demo):
    """The advice on a misspelt type names a plug-in component, whose package is not imported for it."""
    demo.write(r__yaml=RECIPE.replace("type: ranked", "type: rankd"))
    assert "did you mean `ranked`?" in demo.call("validate", "r.yaml").err
    assert "recipec_demo.spec.advantage" not in sys.modules


def test_a_fragment_without_a_type_may_be_of_a_plug_in(demo):
    """Parameters in a fragment that leaves the type to the recipe may be those of a plug-in component."""
    demo.write(part__yaml="recipec: 1\nenvironment: {multiple: 3}\n")
    assert demo.call("validate", "part.yaml").code == 0


def test_recipes_of_our_components_do_not_look_for_packages(demo, monkeypatch):
    """The metadata of installed packages is not read where recipec has every component that a recipe names."""
    text = RECIPE.split("  prefer:", maxsplit=1)[0].replace("    environment: {type: counting, max_turns: 2}\n", "")
    for ours, theirs in [*TWINS.items(), ("      world: {type: environment}\n", "")]:
        text = text.replace(ours, theirs)
    demo.write(r__yaml=text)

    def read(**_):
        raise AssertionError

    monkeypatch.setattr(component, "entry_points", read)
    assert demo.call("validate", "r.yaml").code == 0


def test_the_plan_counts_a_plug_in_like_a_component_of_ours(demo):
    """Tokens, operations, memory and skipped passes are those of components with the same declarations."""
    text = RECIPE
    for theirs, ours in TWINS.items():
        text = text.replace(theirs, ours)
    demo.write(twin__yaml=text)
    plans = [json.loads(demo.call("plan", name, "--format", "json").out) for name in ("r.yaml", "twin.yaml")]
    assert plans[0] == plans[1]
    assert "72 of 96 tokens of rows are unique" in demo.call("plan", "r.yaml").out


def test_the_graph_has_every_plug_in_component(demo):
    """Nodes of the graph name the plug-ins' types, and preflight and run digest know of their package."""
    graph = compile_recipe(Path("r.yaml")).graph
    used = [one.spec for one in components(graph)]
    names = {(spec.slot, spec.type_name) for spec in used}
    assert set(NAMES.items()) <= names
    assert all("recipec-demo" in named_packages(stage) for stage in graph.stages)
    jsonschema.validate(json.loads(graphs.to_json(graph)), json_schema.schema("graph"))


def test_a_plug_in_is_run_and_credited(demo):
    """A run samples, scores, credits, trains and pairs by the plug-in; `credit` gives the ranks of recorded rows."""
    ended = demo.call("run", "r.yaml", "--out", "out")
    assert ended.code == 0, ended.err
    assert "demo engine:" in ended.err
    metrics = [json.loads(line) for line in Path("out/stages/explore/metrics.jsonl").read_text().splitlines()]
    assert [row["demo/calls"] for row in metrics if "demo/calls" in row] == [1, 2]
    pairs = [json.loads(line) for line in Path("out/stages/prefer/pairs/pairs.jsonl").read_text().splitlines()]
    assert pairs
    assert all(pair["chosen_tokens"] > pair["rejected_tokens"] for pair in pairs)
    credited = demo.call("credit", "r.yaml", "out/stages/explore/samples", "--format", "json")
    assert credited.code == 0, credited.err
    rows = [json.loads(line) for line in credited.out.splitlines()]
    groups = {}
    for row in rows:
        groups.setdefault((row["step"], row["prompt_id"]), []).append(row)
    assert Counter(map(len, groups.values())) == {4: 4}
    for group in groups.values():
        lowest, highest = (pick(group, key=lambda row: row["reward"]) for pick in (min, max))
        assert sum(row["advantage"] for row in group) == pytest.approx(0)
        assert lowest["advantage"] < highest["advantage"] or lowest["reward"] == highest["reward"]


def test_a_run_of_plug_ins_is_continued(demo, monkeypatch):
    """A run that a signal ends after one step goes on from its checkpoint, and ends with the same bits."""
    from recipec_demo.runtime.train_engine import DemoUpdates

    update = DemoUpdates.update

    def interrupted(engine, *args, **more):
        monkeypatch.setattr(DemoUpdates, "update", update)
        os.kill(os.getpid(), signal.SIGINT)
        return update(engine, *args, **more)

    assert demo.call("run", "r.yaml", "--out", "whole").code == 0
    monkeypatch.setattr(DemoUpdates, "update", interrupted)
    ended = [demo.call("run", "r.yaml", "--out", "cut") for _ in range(3)]
    assert [one.code for one in ended] == [75, 0, 0]
    assert Path("cut/explore.txt").read_text() == Path("whole/explore.txt").read_text() == "0\n1\n2\n"
    for file in (
        "model/model.safetensors",
        "stages/prefer/pairs/pairs.jsonl",
        "stages/explore/samples/step-000002.jsonl",
    ):
        whole, cut = (Path(folder, file).read_bytes() for folder in ("whole", "cut"))
        assert whole == cut


@pytest.mark.parametrize(("slot", "name"), NAMES.items())
def test_ls_and_show_have_every_plug_in_component(installed, folder, slot, name):
    """`ls components` has the first line of its docstring, `show` its parameters."""
    listed = folder.call("ls", "components").out
    shown = folder.call("show", f"{slot}/{name}")
    assert shown.code == 0
    first = shown.out.splitlines()[2]
    assert any(line.split(maxsplit=1) == [f"{slot}/{name}", first] for line in listed.splitlines())


def test_the_schema_completes_plug_ins(demo):
    """The schema accepts the recipe and describes the parameters, where the package is installed and only there."""
    recipe = yaml.safe_load(RECIPE)
    made = json_schema.schema("recipe")
    jsonschema.validate(recipe, made)
    assert {f"{slot}.{name}" for slot, name in NAMES.items()} <= set(made["$defs"])
    assert made["$defs"]["sampler.cooled"]["properties"]["cooling"]["default"] == 0.5
    recipe["stages"]["explore"]["sampler"]["cooling"] = "half"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(recipe, made)


def test_a_package_that_is_not_installed_is_unknown(folder):
    """Without the package its components are unknown names."""
    folder.write(r__yaml=RECIPE, a__jsonl=ROWS)
    assert folder.call("validate", "r.yaml").first == "RC131"
    assert "ranked" not in folder.call("ls", "components").out
    assert "sampler.cooled" not in json_schema.schema("recipe")["$defs"]


def test_a_broken_package_is_reported_where_it_is_needed(folder, monkeypatch, tmp_path):
    """`ls` lists its component with the reason, `show`, `schema` and `validate` refuse it with RC151."""
    about = tmp_path / "broken-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[recipec.components]\nadvantage.lost = recipec_demo_lost\n")
    on_path(monkeypatch, tmp_path)
    listed = folder.call("ls", "components")
    assert "advantage/lost" in listed.out
    assert "No module named 'recipec_demo_lost'" in listed.out
    for args in (("show", "advantage/lost"), ("schema", "recipe")):
        assert folder.call(*args).first == "RC151"
    assert folder.call("show", "advantage/rloo").code == 0
    folder.write(r__yaml=RECIPE.replace("ranked", "lost"), a__jsonl=ROWS)
    assert "RC151" in folder.call("validate", "r.yaml").err

"""A plan in a run directory reads models, data and earlier runs, and nothing else."""

import json
from pathlib import Path

from support.built_recipes import dpo, part, recipe, rl, scratch, sft

from recipec.compile import Compiled, compile_recipe
from recipec.graph import to_json
from recipec.host.artifacts import RunFolder, committed
from recipec.host.options import Options
from recipec.planning.plan_text import render_plan
from recipec.run.digests import run_digest
from recipec.run.executor import done
from recipec.run.run_plan import plan_run
from recipec.spec.recipe import Budget, Recipe
from recipec.yaml_io import to_yaml


def small() -> Recipe:
    """Imitate, then explore."""
    learn = sft(policy=scratch(), budget=Budget(epochs=2, rows_per_step=2))
    return recipe(warm=learn, explore=rl("warm"))


def written(folder: Path, built: Recipe) -> Compiled:
    """Compile a recipe that lies in a folder beside its data."""
    (folder / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 5)
    (folder / "r.yaml").write_text(to_yaml(built))
    return compile_recipe(folder / "r.yaml")


def finish(compiled: Compiled, folder: Path, out: Path) -> None:
    """Leave what a finished run leaves."""
    assert compiled.graph is not None
    plan = plan_run(compiled, out).to_json()
    digests: dict[str, str] = {}
    for stage in compiled.graph.stages:
        digests[stage.name] = run_digest(stage, compiled.graph, digests, Options(root=folder, out=out))
        for artifact in stage.artifacts:
            with committed(out / "stages" / stage.name / artifact, {"digest": digests[stage.name]}) as made:
                (made / "x").write_text("x")
    (out / "graph.json").write_text(to_json(compiled.graph))
    (out / "plan.json").write_text(plan)


def test_first(tmp_path: Path) -> None:
    """Rows are counted, the new model is measured, all of it runs."""
    made = plan_run(written(tmp_path, small()), tmp_path / "out")
    assert [(stage.action, stage.steps) for stage in made.stages] == [("run", 6), ("run", 5)]
    assert made.stages[1].model == made.stages[0].model != "unknown"


def test_finished(tmp_path: Path) -> None:
    """What is done is skipped."""
    compiled = written(tmp_path, small())
    finish(compiled, tmp_path, tmp_path / "out")
    assert not plan_run(compiled, tmp_path / "out").changes


def test_changed_key(tmp_path: Path) -> None:
    """A changed parameter is named with its line."""
    finish(written(tmp_path, small()), tmp_path, tmp_path / "out")
    changed = to_yaml(small()).replace("max_completion_length: 16", "max_completion_length: 17")
    (tmp_path / "r.yaml").write_text(changed)
    line = next(i for i, text in enumerate(changed.splitlines(), 1) if "17" in text)
    made = plan_run(compile_recipe(tmp_path / "r.yaml"), tmp_path / "out")
    assert [stage.action for stage in made.stages] == ["skip", "run"]
    assert made.stages[1].reason.endswith(f"r.yaml:{line})")
    assert "`stages.explore.sampler.max_completion_length`" in made.stages[1].reason


def test_changed_file(tmp_path: Path) -> None:
    """A changed data file is named, and what builds on its stage runs, too; a comment changes nothing."""
    finish(written(tmp_path, small()), tmp_path, tmp_path / "out")
    (tmp_path / "r.yaml").write_text(to_yaml(small()) + "# a comment\n")
    assert not plan_run(compile_recipe(tmp_path / "r.yaml"), tmp_path / "out").changes
    (tmp_path / "a.jsonl").write_text('{"prompt": "c", "completion": "d"}\n')
    made = plan_run(compile_recipe(tmp_path / "r.yaml"), tmp_path / "out")
    assert [stage.reason for stage in made.stages] == [
        "changed: the file a.jsonl",
        "depends on stage `warm`, which runs",
    ]


def test_changed_neighbour(tmp_path: Path) -> None:
    """A stage runs again when the rows that it reads, or a model that it is held against, are made anew."""
    pairs = part("preference", "best_vs_worst", rollouts="explore.rollouts")
    right = {"right": part("reward", "exact_match")}
    explore = rl("warm", data=part("data", "file", path="b.jsonl", max_length=32), reward=right)
    other = part("reference", "frozen", **{"from": "./m"})
    built = recipe(
        warm=sft(policy=scratch()),
        explore=explore,
        align=dpo("warm", data=None, preference=pairs),
        held=dpo("warm", data=part("data", "file", path="a.jsonl"), reference=other),
    )
    (tmp_path / "b.jsonl").write_text('{"prompt": "a"}\n')
    finish(written(tmp_path, built), tmp_path, tmp_path / "out")
    assert not plan_run(written(tmp_path, built), tmp_path / "out").changes

    (tmp_path / "b.jsonl").write_text('{"prompt": "b"}\n')
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")

    assert digests(written(tmp_path, built), tmp_path, tmp_path / "out") == ["done", "stale", "stale", "stale"]


def digests(compiled: Compiled, folder: Path, out: Path) -> list[str]:
    """Say of every stage whether what lies there was made by it."""
    assert compiled.graph is not None
    found: dict[str, str] = {}
    said = []
    for stage in compiled.graph.stages:
        found[stage.name] = run_digest(stage, compiled.graph, found, Options(root=folder, out=out))
        said.append("done" if done(RunFolder(out), stage, found[stage.name]) else "stale")
    return said


def test_local_model(tmp_path: Path) -> None:
    """The sizes of a model in a directory come from its config; of another model nothing is known."""
    config = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"intermediate_size": 64, "vocab_size": 100}))
    policy = part("policy", "causal_lm")
    found = plan_run(written(tmp_path, recipe(a=rl("./m", policy=policy), b=rl("org/name"))), tmp_path / "out")
    assert found.stages[0].model.startswith("llama, ")
    assert found.stages[1].model == "unknown"


def test_broken_run(tmp_path: Path) -> None:
    """A graph of an earlier run that cannot be read is as none."""
    compiled = written(tmp_path, small())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "graph.json").write_text("{")
    assert "no previous run" in plan_run(compiled, tmp_path / "out").stages[0].reason


def test_rows_of_a_run(tmp_path: Path) -> None:
    """Rows of the exploring stage are measured for it, beside what was predicted; the other stages have none."""
    rows = [{"prompt_id": 1, "prompt_ids": [1, 2, 3], "ids": [answer, 9]} for answer in (4, 5)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = plan_run(written(tmp_path, small()), tmp_path / "out", (tmp_path / "rows.jsonl", None))
    warm, explore = made.stages
    assert warm.measured is None
    assert explore.sharing is not None
    assert explore.measured is not None
    assert explore.measured.sharing.forms[0].token_ratio == 8 / 5
    assert "measured          2 rows of 1 steps" in render_plan(made)
    assert json.loads(made.to_json())["stages"][1]["measured"]["updates"][0]["unique"] == 5


def test_facts(tmp_path: Path) -> None:
    """A stage that reads facts says which, and how large their files are."""
    stage = """
  {name}:
    kind: dpo
    from: org/model
    data: {{path: a.jsonl}}
    knowledge: {{{facts}}}
    sampler: {{num_generations: 4, max_completion_length: 8}}
    preference: {{type: kg_rank, topic: disease}}
    budget: {{epochs: 1, pairs_per_step: 2}}"""
    graphs = {
        "files": "type: triples, path: [f.tsv, g.ttl]",
        "missing": "type: triples, path: h.tsv",
        "package": "type: hpo",
        "asked": "type: sparql, service: facts",
        "read": "type: extract, path: f.jsonl",
    }
    text = "recipec: 1\nname: small\nmachine: {services: {facts: {url: 'http://h/'}}}\nstages:"
    (tmp_path / "r.yaml").write_text(text + "".join(stage.format(name=n, facts=f) for n, f in graphs.items()) + "\n")
    for name in ("f.tsv", "g.ttl", "f.jsonl"):
        (tmp_path / name).write_text("x" * 600)
    made = plan_run(compile_recipe(tmp_path / "r.yaml"), tmp_path / "out")
    said = {stage.name: stage.facts for stage in made.stages}

    assert said["files"] == "f.tsv, g.ttl: 1.2 kB"
    assert said["missing"] == "h.tsv: unknown"
    assert "HP:0000951" in said["package"]
    assert said["asked"].startswith("service `facts`")
    assert said["read"] == "read by a model from f.jsonl: 600 B"
    assert "  knowledge f.tsv, g.ttl: 1.2 kB\n" in render_plan(made)

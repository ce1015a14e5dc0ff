"""Files that extend files: found inside the project, merged in order, never without end."""

import time
from pathlib import Path

import pytest
from support.resolved_text import at, codes, load, only

from recipec.compile import compile_recipe
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.package_files import named_file
from recipec.run.inputs import named_files


def test_a_stage_extends_fragments_and_drops_their_version(project):
    """Fragments fill slots of the stage; a base recipe's stage lies under the fragment."""
    project(
        frag="recipec: 1\nloss: {epsilon: 0.2}\n",
        base="recipec: 1\nstages:\n  s: {kind: rl, loss: {epsilon: 0.1, beta: 1}}\n",
    )
    resolved = load("extends: [base]\nstages:\n  s:\n    extends: [frag]\n    kind: rl\n")
    assert resolved.data == {"recipec": 1, "stages": {"s": {"kind": "rl", "loss": {"epsilon": 0.2, "beta": 1}}}}
    assert not resolved.is_fragment
    assert codes(resolved) == []


def test_paths_are_relative_to_the_file_that_says_them(project):
    """A fragment in a folder extends its neighbour, and says where its values were said."""
    project(lib__a="extends: b\nx: 1\n", lib__b="y: 2\n", recipes__r="extends: ../lib/a.yaml\nz: 3\n")
    resolved = resolve(read_source("recipes/r.yaml"))
    assert resolved.data == {"y": 2, "x": 1, "z": 3}
    assert [resolved.file((key,)) for key in "xyz"] == ["lib/a.yaml", "lib/b.yaml", "recipes/r.yaml"]
    assert [at(span)[:2] for span in resolved.spans(("y",))] == [
        ("lib/b.yaml", 1),
        ("lib/a.yaml", 1),
        ("recipes/r.yaml", 1),
    ]
    assert resolved.spans(("y",))[1].label == "included from here"
    assert resolved.text("lib/b.yaml") == "y: 2\n"


def test_shipped_recipes_are_found_anywhere(tmp_path, monkeypatch):
    """`recipec:` names the package's recipes, from any project, under a name that holds on every machine."""
    monkeypatch.setattr("recipec.language.includes.shipped", lambda folder: tmp_path / "installed" / folder)
    (tmp_path / "installed" / "recipes" / "algorithms").mkdir(parents=True)
    (tmp_path / "installed" / "recipes" / "algorithms" / "grpo.yaml").write_text("extends: more\nloss: {beta: 0}\n")
    (tmp_path / "installed" / "recipes" / "algorithms" / "more.yaml").write_text("loss: {epsilon: 0.2}\n")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    resolved = load("stages: {s: {extends: 'recipec:algorithms/grpo'}}")
    assert resolved.data["stages"]["s"]["loss"] == {"epsilon": 0.2, "beta": 0}
    assert resolved.file(("stages", "s", "loss", "epsilon")) == "recipec:algorithms/more.yaml"
    missing = only(load("stages: {s: {extends: 'recipec:algorithms/gpro'}}"), "RC120")
    assert "`recipec:algorithms/grpo`" in missing.help
    unmarked = only(load("stages: {s: {extends: grpo}}"), "RC120")
    assert "`recipec:algorithms/grpo`" in unmarked.help
    assert codes(load("stages: {s: {extends: 'recipec:../../secret'}}")) == ["RC121"]
    assert codes(load("stages: {s: {extends: 'recipec:/etc/passwd'}}")) == ["RC121"]


def test_includes_stay_inside_the_project(project, tmp_path):
    """Paths out of the project, and links out of it, are refused without being opened."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.yaml").write_text("a: 1\n")
    project(r="a: 1\n")
    Path("link.yaml").symlink_to(outside / "secret.yaml")
    Path("folder").symlink_to(outside)
    assert codes(load(f"extends: ../{outside.name}/secret.yaml")) == ["RC121"]
    assert codes(load("extends: /etc/passwd")) == ["RC121"]
    assert codes(load("extends: link.yaml")) == ["RC121"]
    assert codes(load("extends: folder/secret")) == ["RC121"]
    assert codes(load(f"extends: {tmp_path}/r.yaml")) == []


def test_without_a_project_the_root_is_the_folder_of_the_recipe(tmp_path, monkeypatch):
    """A recipe that was sent alone may read its own folder only."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "other.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert codes(resolve(read_source("sub/r.yaml", "extends: ../other"))) == ["RC121"]


def test_circles_of_files_are_shown(project):
    """The circle is named, at the entry that closes it, with the way there."""
    project(a="extends: b\nx: 1\n", b="extends: a\ny: 2\n")
    found = only(resolve(read_source("a.yaml")), "RC123")
    assert found.message.endswith("a.yaml → b.yaml → a.yaml")
    assert [span.file for span in found.spans] == ["b.yaml", "a.yaml"]


def test_includes_are_counted(project):
    """Neither many files nor few files again and again are read without end."""
    project(**{f"f{i}": f"x{i}: 1\n" for i in range(40)})
    assert codes(load("extends: [" + ", ".join(f"f{i}" for i in range(40)) + "]")) == ["RC103"]
    assert codes(load("extends: [" + ", ".join(f"f{i}" for i in range(32)) + "]")) == []
    project(**{f"d{i}": f"extends: [d{i + 1}, d{i + 1}]\n" for i in range(20)}, d20="x: 1\n")
    start = time.process_time()
    assert codes(load("extends: d0")) == ["RC103"]
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: {a: 1}", "paths of files"),
        ("extends: [1]", "paths of files"),
        ("extends: ['']", "paths of files"),
        ("extends: '${vars.x}'\nvars: {x: f}", "before any reference"),
        ("stages: {s: {extends: whole}}", "whole recipe"),
    ],
)
def test_extends_takes_paths(project, text, says):
    """Anything else is said, and nothing is missing for it later."""
    project(whole="stages: {}\n")
    resolved = load(text)
    assert says in only(resolved, "RC119").message
    assert not resolved.complete


def test_errors_in_includes_show_the_chain(project):
    """A syntax error in a fragment points into it, then to who included it."""
    project(frag="loss: {a: 1\n", r="stages:\n  s: {extends: frag}\n")
    found = only(resolve(read_source("r.yaml")), "RC105")
    assert found.spans[0].file == "frag.yaml"
    assert at(found.spans[-1]) == ("r.yaml", 2, 16, 20)


@pytest.mark.parametrize(
    "name", ["a\\0b", "x" * 5000, "x/" * 2000, "no", "folder", ".", "recipec:", "recipec:no/../no"]
)
def test_odd_names_are_not_found(project, name):
    """Names that no file can have, and folders, are coded like any other that is missing."""
    project(folder__x="a: 1\n")
    assert set(codes(load(f'extends: "{name}"'))) <= {"RC120", "RC121"}
    assert codes(load(f'extends: "{name}"'))


def test_a_fragment_included_twice_says_its_mistakes_once(project):
    """The same mistake in the same place is one diagnostic."""
    project(frag="a: 1\na: 2\n")
    only(load("stages:\n  s: {extends: frag}\n  t: {extends: frag}\n"), "RC107")


def test_files_of_a_shipped_recipe_are_those_of_the_package(tmp_path):
    """A recipe that extends one of the package names its templates by a path that every reader finds."""
    recipe = tmp_path / "r.yaml"
    recipe.write_text("recipec: 1\nextends: [recipec:tiny/quickstart]\nname: small\n")
    graph = compile_recipe(recipe).graph
    names = {name for stage in graph.stages for name in named_files(stage)}
    assert names == {"recipec:tiny/prompts/spell.j2"}
    assert all(named_file(tmp_path, name).is_file() for name in names)

"""What `import recipec` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import pytest
from support.small_recipes import ROWS, SFT

import recipec
from recipec.component import Component, components_of
from recipec.spec.recipe import COMPONENT_SLOTS

HELD_OUT = "evaluate: {held_out: {data: {path: a.jsonl}, metrics: [reward], reward: {right: {type: exact_match}}}}\n"


@pytest.mark.parametrize("name", recipec.__all__)
def test_names_are_there(name: str) -> None:
    """Each name can be imported, and is what its module says."""
    assert getattr(recipec, name).__name__.rpartition(".")[2] == name
    assert name in dir(recipec)


def test_every_component_has_its_class() -> None:
    """Whatever a recipe can name, a program can build."""
    classes = [cls for slot in COMPONENT_SLOTS for cls in components_of(slot).values()]
    assert [cls.__name__ for cls in classes if getattr(recipec, cls.__name__, None) is not cls] == []
    assert all(issubclass(cls, Component) for cls in classes)


def test_importing_is_cheap() -> None:
    """Importing the package imports neither pydantic nor torch."""
    script = "import sys, recipec; print({'pydantic', 'torch', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_name_that_is_not_there() -> None:
    """Asking for another name fails as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'Ppo'"):
        _ = recipec.Ppo


@pytest.fixture
def home(folder):
    """A folder with a recipe and its data."""
    folder.write(r__yaml=SFT.replace("stages:", HELD_OUT + "stages:"), a__jsonl=ROWS)
    return folder.path


def test_a_recipe_is_run_from_any_thread(home) -> None:
    """Checked, planned, run with a callback and read back, in a thread; a second run has nothing to do."""
    seen: list[tuple[str, int, int]] = []

    def work() -> recipec.Run:
        assert [one.code for one in recipec.check("r.yaml").problems] == ["RC942"]  # it is evaluated on its own rows
        assert recipec.plan("r.yaml").changes
        return recipec.run("r.yaml", ["seed=1"], on_step=lambda *step: seen.append(step[:3]))

    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(work).result()
    assert seen == [("learn", 1, 2), ("learn", 2, 2)]
    assert made.model.is_dir()
    assert [row["step"] for row in recipec.load_run("runs/small").metrics("learn")] == [0, 1, 2]
    for read in (made.metrics, lambda name: made.samples(name, 1)):
        with pytest.raises(KeyError, match="has no stage `lern`, but `learn`"):
            read("lern")
    found = made.results()
    assert found is not None
    assert recipec.evaluate("r.yaml", ["seed=1"]) == dict(found.points[-1].values)
    assert not recipec.plan("r.yaml", ["seed=1"]).changes
    recipec.run("r.yaml", ["seed=1"], on_step=lambda *step: seen.append(step[:3]))
    assert len(seen) == 2
    assert made.export(home / "exported").joinpath("README.md").is_file()


def test_a_recipe_of_objects(home) -> None:
    """An object compiles and runs as its file does; what is wrong is raised whole, with its place."""
    built = recipec.load(home / "r.yaml")
    assert recipec.compile(built).stages[0].digest == recipec.compile("r.yaml").stages[0].digest
    assert recipec.run(built, out="built").results() is not None
    text = (home / "r.yaml").read_text()
    (home / "bad.yaml").write_text(text.replace("steps: 2", "stepz: 2").replace("kind: sft", "kind: sfd"))
    with pytest.raises(recipec.RecipeError, match=r"RC1\d\d .*bad.yaml:\d+.*more") as refused:
        recipec.compile("bad.yaml")
    assert len(refused.value.diagnostics) > 1
    with pytest.raises(recipec.RecipeError, match="RC772"):
        recipec.load_run("none")


def test_signatures_and_version() -> None:
    """What an interactive shell shows is there at once."""
    assert recipec.__version__ == version("recipec")
    assert "kind" in inspect.signature(recipec.Stage).parameters


def test_a_run_that_is_not_there_lists_those_that_are(tmp_path, monkeypatch):
    """The name of a recipe in place of its folder is answered with the folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("small", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text("{}")
    with pytest.raises(recipec.RecipeError) as caught:
        recipec.load_run("small")
    (problem,) = caught.value.diagnostics
    assert problem.code == "RC772"
    assert problem.help == "did you mean `runs/small`? there are `runs/other`, `runs/small`"

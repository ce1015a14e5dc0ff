"""The wheel in an environment of its own: everything but `run`, without torch and without a checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
RECIPE = """\
recipec: 1
name: light
stages:
  explore:
    kind: rl
    from: org/model
    extends: [recipec:algorithms/grpo]
    data: {path: tasks.jsonl, max_length: 512}
    reward: {right: {type: exact_match}}
    sampler: {max_completion_length: 128}
    budget: {steps: 4, prompts_per_step: 4}
"""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from what is here."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("recipec-*.whl"))


@pytest.fixture(scope="module")
def home(wheel, tmp_path_factory) -> Path:
    """Install it, with what it cannot do without."""
    folder = tmp_path_factory.mktemp("light")
    venv.create(folder / "env", with_pip=True)
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    (folder / "r.yaml").write_text(RECIPE)
    (folder / "tasks.jsonl").write_text('{"prompt": "1 + 1 = ", "answer": "2"}\n')
    return folder


def call(home: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run `recipec` of the environment in a folder that is no checkout."""
    command = [str(home / "env" / "bin" / "recipec"), *words]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_wheel_carries_its_data(wheel) -> None:
    """Recipes, schemas, templates, meanings of metrics, shapes and the mark of types are in it; tests are not."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    here = {
        f"recipec/_data/{path.relative_to(ROOT).as_posix()}"
        for folder in ("recipes", "schemas", "templates")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert here <= names
    assert {
        "recipec/_data/docs/metrics.md",
        "recipec/py.typed",
        "recipec/planning/model_shapes.json",
        "recipec/planning/accelerators.json",
        "recipec/cli/commands.py",
    } <= names
    assert [name for name in names if name.startswith("tests")] == []
    assert [name for name in names if name.endswith("LICENSE")] != []


def test_torch_is_not_there(home) -> None:
    """Nothing that the wheel asks for brings torch."""
    python = home / "env" / "bin" / "python"
    for name in ("torch", "numpy", "transformers"):
        done = subprocess.run([python, "-c", f"import {name}"], capture_output=True, check=False)
        assert done.returncode == 1


def test_every_verb_but_run(home) -> None:
    """Checking, listing, explaining, starting and planning work; a recipe extends what the wheel carries."""
    call(home, "validate", "r.yaml")
    assert "algorithms/grpo" in call(home, "ls").stdout
    assert "loss/clipped" in call(home, "ls", "components").stdout
    assert "Lower clip range" in call(home, "show", "loss/clipped").stdout
    assert "eq. 3" in call(home, "show", "algorithms/grpo").stdout
    assert call(home, "explain", "RC204").stdout.startswith("RC204 unmet-requirement")
    assert json.loads(call(home, "schema", "recipe").stdout)["title"] == "recipec recipe"
    assert "explore" in call(home, "plan", "r.yaml").stdout
    assert json.loads(call(home, "compile", "r.yaml", "--emit", "json").stdout)
    call(home, "new", "tiny/quickstart", "mine/quickstart.yaml")
    call(home, "validate", "mine/quickstart.yaml")
    call(home, "plan", "mine/quickstart.yaml")


def test_run_says_what_is_missing(home) -> None:
    """`run` names the extra, before anything is started."""
    done = call(home, "run", "r.yaml", code=1)
    assert "RC716" in done.stderr
    assert "train" in done.stderr
    assert "Traceback" not in done.stderr

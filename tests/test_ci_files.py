"""The GitHub Action and the pre-commit hook: their commands are run as GitHub and pre-commit run them."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
GOOD = "recipec: 1\nloss: {type: clipped, epsilon: 0.2}\n"
BAD = "recipec: 1\nloss: {type: clipped, epsilonn: 0.2}\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with a good and a bad recipe, a YAML file of another tool, and `recipec` on the path."""
    for name, text in {"a b.yaml": GOOD, "deep/bad.yml": BAD, "compose.yaml": "services: {x: {image: y}}\n"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    script = tmp_path / "bin/recipec"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m recipec "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IEXEC)
    return tmp_path


def step(repository: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the step that validates, with the defaults of the action where no input is given."""
    (found,) = (one for one in ACTION["runs"]["steps"] if one.get("id") == "validate")
    given = {name: about["default"] for name, about in ACTION["inputs"].items()} | inputs
    variables = {
        name: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda m: given[m[1]], text)
        for name, text in found["env"].items()
    }
    return run(repository, ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", found["run"]], variables)


def run(repository: Path, command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository."""
    paths = {
        "PATH": f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_OUTPUT": str(repository / "output"),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        command, cwd=repository, env={**os.environ, **paths, **variables}, capture_output=True, text=True, check=False
    )


def test_the_action_annotates_and_writes_sarif(repository: Path) -> None:
    """A bad recipe fails the step with an annotation and a result; other YAML files are left out."""
    done = step(repository)
    assert done.returncode == 1, done.stderr
    assert re.search(r"^::error .*file=deep/bad\.yml,line=2", done.stdout, re.MULTILINE)
    assert "compose" not in done.stdout
    (found,) = json.loads((repository / "recipec.sarif").read_text())["runs"]
    assert {one["ruleId"] for one in found["results"]} == {"RC130"}
    assert (repository / "output").read_text() == "sarif=recipec.sarif\n"


def test_the_action_passes_a_good_repository(repository: Path) -> None:
    """Without errors the step succeeds, and the SARIF file is there, without results; without a name there is none."""
    (repository / "deep/bad.yml").write_text(GOOD)
    assert step(repository).returncode == 0
    (found,) = json.loads((repository / "recipec.sarif").read_text())["runs"]
    assert found["results"] == []
    (repository / "recipec.sarif").unlink()
    assert step(repository, sarif="").returncode == 0
    assert not (repository / "recipec.sarif").exists()


def test_inputs_are_no_code(repository: Path) -> None:
    """No input is put into a script: what it contains is not executed."""
    scripts = [one["run"] for one in ACTION["runs"]["steps"] if "run" in one]
    assert not any("${{" in script for script in scripts)
    step(repository, paths="deep; touch made", strict="$(touch made)", sarif="$(touch made).sarif")
    assert not (repository / "made").exists()


def test_steps_of_others_are_pinned() -> None:
    """Actions of others are named by commit or by the major version that their owners keep."""
    for one in ACTION["runs"]["steps"]:
        if "uses" in one:
            assert re.search(r"@([0-9a-f]{40}|v\d+)$", one["uses"]), one["uses"]


def test_the_hook_checks_recipes_anywhere(repository: Path) -> None:
    """It gets YAML files by their names, fails for a bad recipe, and leaves files of other tools alone."""
    assert HOOK["types"] == ["yaml"]
    entry = shlex.split(HOOK["entry"])
    assert run(repository, [*entry, "a b.yaml", "compose.yaml", "deep/bad.yml"], {}).returncode == 1
    assert run(repository, [*entry, "a b.yaml", "compose.yaml"], {}).returncode == 0
    assert run(repository, [*entry, "compose.yaml"], {}).returncode == 0

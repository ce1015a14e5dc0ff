"""The recipes that ship are valid, say what they are, and the quickstart learns what it says."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.compile import compile_recipe

ROOT = Path(__file__).parents[2] / "recipes"
ALL = sorted(ROOT.rglob("*.yaml"))
QUICKSTART = ROOT / "tiny" / "quickstart.yaml"
SHORT = ("explore.budget.steps=12", "explore.budget.prompts_per_step=24", "explore.optimizer.warmup_updates=0")


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_valid(path):
    """It compiles without a word: a recipe as a recipe, a file without stages as a fragment."""
    result = compile_recipe(path)
    assert [(d.code, d.message) for d in result.diagnostics] == []
    fragment = path.parent.name == "algorithms"
    assert (result.graph is None) is fragment


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_says_what_it_is(path):
    """The first line names a schema that exists, the second says what the recipe does."""
    first, second, *_ = path.read_text().splitlines()
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found is not None
    assert (path.parent / found[1]).is_file()
    assert re.match(r"# \S", second)


def run(out: Path, *overrides: str) -> dict[str, float]:
    """Run the quickstart in a process of its own; return its held-out accuracies by stage, and before the first."""
    said = [word for key in overrides for word in ("--set", f"stages.{key}")]
    command = [sys.executable, "-m", "recipec", "run", str(QUICKSTART), "--out", str(out), "--quiet", *said]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "random"}
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for stage in ("imitate", "explore", "prefer"):
        for line in (out / "stages" / stage / "metrics.jsonl").read_text().splitlines():
            row = json.loads(line)
            if "eval/held_out/accuracy" in row:
                found[stage if row["step"] else "before"] = row["eval/held_out/accuracy"]
    return found


def weights(out: Path) -> list[str]:
    """Hash the weights that each stage left."""
    files = sorted((out / "stages").glob("*/policy/model.safetensors"))
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


@pytest.mark.slow
def test_the_quickstart_twice(tmp_path):
    """Two runs of a shortened quickstart, in processes of their own, end with the same weights in every stage."""
    first, second = (run(tmp_path / name, *SHORT) for name in ("one", "other"))
    assert first == second
    assert weights(tmp_path / "one") == weights(tmp_path / "other")
    assert len(set(weights(tmp_path / "one"))) == 3


@pytest.mark.slow
def test_the_quickstart_learns(tmp_path):
    """Practice raises held-out accuracy by 0.3 or more, and preferences do not lower it noticeably."""
    found = run(tmp_path / "run")
    assert found["before"] < 0.05
    assert found["explore"] - found["imitate"] >= 0.3
    assert found["prefer"] >= found["explore"] - 0.03

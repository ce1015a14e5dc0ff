"""The recipes that ship are valid, say what they are, and the quickstart learns what it says."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.compile import check_recipe, compile_recipe
from recipec.run.run_plan import plan_run

ROOT = Path(__file__).parents[2] / "recipes"
ALL = sorted(ROOT.rglob("*.yaml"))
PAPERS = ("tree_grpo", "gigpo")
PUBLISHED = sorted(path for paper in PAPERS for path in (ROOT / paper).glob("*.yaml"))
QUICKSTART = ROOT / "tiny" / "quickstart.yaml"
SHORT = ("explore.budget.steps=12", "explore.budget.prompts_per_step=24", "explore.optimizer.warmup_updates=0")


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_is_valid(path):
    """It compiles without a warning: a recipe as a recipe, a file without stages as a fragment."""
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


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_settings_are_planned(path, tmp_path):
    """The plan of a published run knows its model, its rows and its hours on the published H100, and that it fits."""
    made = plan_run(compile_recipe(path), tmp_path / "out").stages[0]
    assert made.devices == (2 if "gigpo" in path.parts and "search" not in path.stem else 8)
    assert made.unknown == ()
    assert all(phase.seconds for phase in made.phases if phase.name != "reward")
    assert made.seconds is not None
    assert 3600 < made.seconds < 1000 * 3600
    assert made.room is not None
    assert made.peak is not None
    assert made.peak < made.room
    assert {"gather weights", "sum gradients", "update sampler"} <= {one.name for one in made.exchanges}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_settings_say_their_source(path):
    """Every parameter of a published recipe has beside it where its value comes from."""
    inside = False
    for line in path.read_text().splitlines():
        inside |= line.startswith("stages:")
        value = re.match(r"\s+[\w]+: *[^#\s]", line)
        if inside and value and not re.match(r"\s+(kind|type|path|template|chat|data|steps?):", line):
            assert re.search(r"# \S", line), line


TINY = (
    "machine=null",
    "stages.explore.from=scratch",
    "stages.explore.policy={scratch: {hidden_size: 16, layers: 1, heads: 2, max_positions: 16384, tokenizer: bytes}}",
    "stages.explore.budget.steps=1",
    "stages.explore.budget.prompts_per_step=2",
    "stages.explore.sampler.max_context_length=9000",
)
"""A published recipe around a new model of a few thousand parameters: bytes for tokens, so that contexts are longer."""


@pytest.mark.slow
@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_settings_run_small(path, tmp_path):
    """What is published takes a step, offline: the shipped questions, corpus, games and catalogue, and a new model."""
    changes = [*TINY, "evaluate=null", "stages.explore.optimizer.warmup_ratio=0.0"]
    if "search" in path.stem or path.parent.name == "tree_grpo":
        questions = "./data/train.jsonl" if path.parent.name == "tree_grpo" else "../tree_grpo/data/train.jsonl"
        changes += [f"stages.explore.data.path={questions}", "stages.explore.environment.retriever={type: sqlite}"]
    else:
        changes += ["stages.explore.data.size=4", "stages.explore.environment.max_turns=2"]
    turn = "max_completion_length" if "chain" in path.stem or path.parent.name == "gigpo" else "max_turn_length"
    update = "prompts_per_update" if path.parent.name == "tree_grpo" else "rows_per_update"
    changes += [f"stages.explore.sampler.{turn}=16", f"stages.explore.budget.{update}=2"]
    said = [word for change in changes for word in ("--set", change)]
    command = [sys.executable, "-m", "recipec", "run", str(path), "--out", str(tmp_path / "run"), "--quiet", *said]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()


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


@pytest.mark.parametrize(("name", "clamps"), [("gigpo", (None, 10.0)), ("tree_grpo", (20.0, 10.0))])
def test_clamps_as_published(name, clamps):
    """Both trainers bound the KL estimate of a token, as the golden losses do; Tree-GRPO's bounds log-ratios, too."""
    loss = check_recipe(ROOT / "algorithms" / f"{name}.yaml").resolved.data["loss"]
    assert (loss.get("log_ratio_clamp"), loss.get("kl_clamp")) == clamps

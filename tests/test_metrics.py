"""The page of metrics names what is counted, and nothing else."""

import json
import re
from pathlib import Path

import pytest
from support.small_recipes import RL, ROWS, Folder

from recipec.runtime.rollout import chain, metrics

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text("utf-8")
TABLE = re.compile(r"^\| (`.+?`) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
REWARDS = "def score(completions, **columns):\n    return [float(len(c)) for c in completions]\n"


def named(text: str) -> list[str]:
    """Names of the first column of every table, in order."""
    return [name for row in TABLE.finditer(text) for name in re.findall(r"`([^`]+)`", row[1])]


def test_the_names_of_samplers() -> None:
    """What chains and trees count stands on the page, once, and the page names nothing that they do not count."""
    made = metrics.episodes([], "trajectory") | metrics.trees([]) | chain._statistics([]) | {"metric/num_tokens": 0.0}
    section = PAGE.partition("## Sampler metrics")[2].partition("With `group_filter`")[0]
    assert sorted(named(section)) == sorted(name.removeprefix("metric/") for name in made)


@pytest.mark.parametrize("more", ["", ", group_filter: {max_tries: 2}", ", max_staleness: 1"])
def test_the_names_of_a_step(tmp_path, monkeypatch, capsys, more) -> None:
    """Every name that a step leaves in `metrics.jsonl` stands on the page."""
    folder = Folder(tmp_path, monkeypatch, capsys)
    recipe = RL.replace("num_generations: 2", f"num_generations: 2{more}")
    recipe = recipe.replace("type: clipped", "type: clipped, beta: 0.1, entropy: 0.1, sampler_correction: mask")
    ended = folder.run(recipe, "--out", "o", "--use", "./rewards.py", a__jsonl=ROWS, rewards__py=REWARDS)
    assert ended.code == 0, ended.err
    left = folder.path / "o" / "stages" / "explore" / "metrics.jsonl"
    found = {name for line in left.read_text().splitlines() for name in json.loads(line)}
    known = {name.replace("LEVEL", "right") for name in named(PAGE)}
    assert found - known <= {"stage", "step"}
    assert ("groups/tries" in found) == ("group_filter" in more)
    assert ("sampling/staleness/max" in found) == ("max_staleness" in more)

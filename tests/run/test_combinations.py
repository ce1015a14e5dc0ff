"""Every combination of components is compiled or refused with a code, and those that cover all pairs run a step."""

import json
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from support.combinations import RUN, Combo, covering, every, problems, some_of, text
from support.small_recipes import Folder

from recipec.compile import compile_recipe

LEGAL = [combo for combo in every() if not problems(combo)]
SMOKE = covering([combo for combo in LEGAL if combo.environment in RUN])
FAST = len(RUN)
"""Runs that every test run makes, one of each environment; the others are slow ones."""
OWN = """\
class Count:
    @staticmethod
    def tasks(split, size, seed):
        return [{"number": number} for number in range(size or 4)]

    def reset(self, task, seed):
        self.at = seed % 3
        return {"observation": f"at {self.at}", "actions": ["up", "down"]}

    def step(self, action):
        self.at += 1
        return {"observation": f"at {self.at}", "reward": float("u" in action), "terminated": self.at > 3}
"""
QUESTIONS = "".join(
    json.dumps({"prompt": f"Question: {question}?", "question": question, "answer": answer}) + "\n"
    for question, answer in (
        ("capital of France", "Paris"),
        ("capital of Peru", "Lima"),
        ("currency of Japan", "yen"),
        ("capital of Kenya", "Nairobi"),
    )
)


@pytest.mark.parametrize("share", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_every_combination_is_compiled_or_refused(share: int) -> None:
    """Each recipe, or one of 11, gives a graph or exactly the codes that it deserves, and none a traceback."""
    wrong = []
    seen: Counter[bool] = Counter()
    for combo in some_of(every(), share):
        compiled = compile_recipe("recipe.yaml", text=text(combo))
        codes = {diagnostic.code for diagnostic in compiled.diagnostics if diagnostic.is_error}
        if codes != problems(combo) or (compiled.graph is None) != bool(codes):
            wrong.append((combo, codes, problems(combo)))
        seen[not codes] += 1
    assert wrong[:5] == []
    assert seen[True] > 500 / share
    assert seen[False] > 5000 / share


def test_the_runs_cover_every_pair() -> None:
    """Every two choices that are legal together are run together, by about seventy runs."""
    wanted = {pair for combo in LEGAL if combo.environment in RUN for pair in combinations(enumerate(combo), 2)}
    assert wanted == {pair for combo in SMOKE for pair in combinations(enumerate(combo), 2)}
    assert len(SMOKE) < 75


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What environments build once: games, indexes."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    "combo",
    [pytest.param(combo, marks=() if number < FAST else pytest.mark.slow) for number, combo in enumerate(SMOKE)],
    ids=lambda combo: "-".join(combo).replace(" ", "_"),
)
def test_a_step_runs(combo: Combo, folder: Any, cache: Path) -> None:
    """A legal combination samples, scores, credits and updates: one step, from its recipe to a policy."""
    assert isinstance(folder, Folder)
    folder.monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    own = ("--use", "worlds.py") if "own" in combo.environment else ()
    ended = folder.run(text(combo), *own, tasks__jsonl=QUESTIONS, worlds__py=OWN)
    assert ended.code == 0, ended.err
    made = folder.path / "runs/small/stages/explore"
    rows = [json.loads(line) for path in (made / "samples").glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len({row["prompt_id"] for row in rows}) == 2
    assert combo.advantage in {"leaves", "gae"} or all(
        "advantage" in row for row in rows
    )  # tokens are credited, not rows
    assert (made / "policy" / "model.safetensors").is_file()

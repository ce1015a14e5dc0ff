"""Classes of environments are checked by their text, and never run."""

import pytest

from recipec.compile import compile_recipe

RECIPE = """recipec: 1
name: r
use: [./maze.py]
stages:
  a:
    kind: rl
    from: org/name
    policy: {type: causal_lm}
    data: {type: environment}
    environment: {type: own, name: Maze}
    reward:
      won: {type: environment}
    advantage: {g: {type: group_relative}}
    loss: {type: clipped}
    budget: {steps: 1}
"""
METHODS = "    def reset(self, task, seed): ...\n    def step(self, action, extra=1): ...\n"


def found(tmp_path, text, code="RC814"):
    """Return what a check says of a recipe beside this file."""
    if text is not None:
        (tmp_path / "maze.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{text}")
    (tmp_path / "r.yaml").write_text(RECIPE)
    diagnostics = compile_recipe(tmp_path / "r.yaml").diagnostics
    assert not (tmp_path / "ran").exists()
    return [d for d in diagnostics if d.code == code]


@pytest.mark.parametrize(
    "text",
    [
        f"class Maze:\n{METHODS}",
        f"class Room:\n{METHODS}\nclass Maze(Room):\n    @staticmethod\n    def tasks(split, size, seed): ...\n",
        "import somewhere\nclass Maze(somewhere.Room): ...\n",
        "class Maze:\n    def reset(self, *given): ...\n    def step(self, action): ...\n",
        "class Maze(:\n",
        None,
    ],
    ids=["plain", "inherited", "inherited from elsewhere", "any arguments", "no Python", "not there"],
)
def test_classes_that_can_be_used(tmp_path, text):
    """Methods may be inherited; what is not known, not there, or no Python is left to others."""
    assert found(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "word", "spans"),
    [
        (f"class Mase:\n{METHODS}", "did you mean `Mase`?", 1),
        ("def Maze(): ...", "none", 1),
        ("class Maze:\n    def reset(self, task, seed): ...\n", "has no `step`", 2),
        (
            "class Maze:\n    def reset(self): ...\n    def step(self, action): ...\n",
            "`def reset(self, task, seed):`",
            2,
        ),
        (
            "class Maze:\n    def reset(self, task, seed): ...\n    async def step(self, action): ...\n",
            "a `step` that",
            2,
        ),
        (
            f"class Maze:\n{METHODS}    def tasks(split, size, seed): ...\n",
            "`@staticmethod def tasks(split, size, seed):`",
            2,
        ),
    ],
)
def test_classes_that_cannot(tmp_path, text, word, spans):
    """An unknown name, a missing method and one of other arguments are found in the recipe and in the file."""
    (one,) = found(tmp_path, text)
    assert one.spans[0].line == 10
    assert len(one.spans) == spans
    assert word in one.message + one.help
    assert "cannot be called" not in one.message or one.spans[1].line > 2, "the place of the method"


@pytest.mark.parametrize(
    ("before", "step", "line"),
    [
        ("", "'again'", 4),
        ("import random\n", "'again'", 5),
        ("", "{'observation': 'again', 'reward': 1.0}", None),
        ("import somewhere\n", "somewhere.play(action)", None),
    ],
)
def test_an_environment_that_names_no_reward(tmp_path, before, step, line):
    """It warns where the environment is the only reward, unless code from elsewhere may give one."""
    text = f"{before}class Maze:\n    def reset(self, task, seed): ...\n    def step(self, action): return {step}\n"
    assert [d.spans[1].line for d in found(tmp_path, text, "RC756")] == [line] * (line is not None)

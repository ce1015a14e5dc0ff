"""A user's own class as an environment: it runs in another process, and its mistakes name its file and line."""

import os
import sys
from dataclasses import replace

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.environment.episode_state import Turn
from recipec.runtime.environment.user_env import UserEnvironment
from recipec.spec import environment as specs

MAZE = """\
import os

class Maze:
    def __init__(self, size=3):
        self.size = size

    def reset(self, task, seed):
        self.at = task.get("from", 0)
        return f"at {self.at}"

    def step(self, action):
        if action == "dig":
            return {"observation": 1 / 0}
        if action == "pid":
            return {"observation": "pid", "state": os.getpid()}
        self.at += int(action)
        over = self.at >= self.size
        return {"observation": f"at {self.at}", "reward": float(over), "terminated": over, "actions": ["1", "-1"]}

    @staticmethod
    def tasks(split, size, seed):
        if split == "none":
            raise LookupError("no such split")
        return [{"from": -i} for i in range(size or 2)]
"""


@pytest.fixture
def own(text_context, text_policy, tmp_path):
    """Make environments from a file's text; they are closed at the end."""
    made = []

    def make(text=MAZE, name="Maze", **options):
        (tmp_path / "maze.py").write_text(text)
        (tmp_path / "other.py").write_text("open('ran', 'w')\nraise ValueError('another file ran')\n")
        context = replace(text_context, use=(tmp_path / "other.py", tmp_path / "maze.py"))
        spec = specs.Own(name=name, options=options, replayable=True)
        made.append(UserEnvironment(spec, context, policy=text_policy))
        return made[-1]

    yield make
    for environment in made:
        environment.close()


def turn(action):
    """A turn that takes an action."""
    return Turn((5,), f"<think>a</think><action>{action}</action>")


def test_an_episode_of_ones_own(own):
    """Text or a mapping, tasks, rewards and the end; the class never comes into this process."""
    environment = own(size=2)
    columns = environment.tasks("train", 1, 0)
    (position,) = environment.start([Task(0, "", (1,), columns[0])])
    assert (position.observation, position.state) == ("at 0", "at 0")
    (one, pid) = environment.step([position] * 2, [turn("1"), turn("pid")])
    assert (one.observation, one.reward, one.ended) == ("at 1", 0.0, False)
    (over,) = environment.step([one], [turn("1")])
    assert (over.observation, over.reward, over.ended) == ("at 2", 1.0, True)
    assert pid.state != os.getpid()
    assert not any(str(getattr(module, "__file__", "")).endswith("/maze.py") for module in list(sys.modules.values()))


def test_what_it_raises_is_told_with_its_line(own):
    """The error of an episode, and that of the list of tasks, name file and line."""
    environment = own()
    (position,) = environment.start([Task(0, "", (1,), {})])
    (failed,) = environment.step([position], [turn("dig")])
    assert failed.error == "maze.py:13: ZeroDivisionError: division by zero"
    with pytest.raises(RecipeError) as caught:
        environment.tasks("none", 1, 0)
    assert "maze.py:23: LookupError: no such split" in caught.value.diagnostics[0].message


@pytest.mark.parametrize(
    ("text", "name", "options", "word"),
    [
        (MAZE, "Mase", {}, "no file under `use` has a class `Mase`"),
        (MAZE, "Maze", {"colour": 1}, "unexpected keyword argument"),
        ("x = 1\nraise ValueError('x')\nclass Maze: ...\n", "Maze", {}, "maze.py:2: "),
        ("class Maze(:\n", "Maze", {}, "maze.py:1: "),
    ],
)
def test_classes_that_cannot_be_built(own, text, name, options, word):
    """Before any episode: RC810 with what is wrong."""
    with pytest.raises(RecipeError) as caught:
        own(text, name, **options)
    found = caught.value.diagnostics[0]
    assert found.code == "RC810"
    assert word in found.message

"""Beginnings of recipes run where they are written, and `try` shows what a reward and an environment see."""

import json

import pytest

from recipec.catalogue.starters import starters

SHORT = {"imitate": 1, "explore": 1, "play": 1, "talk": 1}
SMALL = {
    "maths": (
        "stages.explore.budget.prompts_per_step=2",
        "stages.explore.sampler.num_generations=2",
        "evaluate.sums.data.limit=4",
    ),
    "environment": (
        "stages.play.budget.prompts_per_step=2",
        "stages.play.sampler.num_generations=2",
        "evaluate.games.data.limit=2",
    ),
}
"""Fewer samples than a beginning takes."""
USE = {"reward": "rewards.py", "environment": "game.py"}


def new(folder, name):
    """Write a beginning; return the options that allow its code."""
    made = folder.call("new", name, "r.yaml")
    assert made.code == 0, made.err
    assert (folder.path / ".recipec/recipe.schema.json").is_file()
    return ("--use", USE[name]) if name in USE else ()


@pytest.mark.parametrize("name", starters())
def test_a_beginning_runs_at_once(folder, name):
    """It is checked and trained with nothing else in the folder, and names the two lines of a real model."""
    use = new(folder, name)
    text = (folder.path / "r.yaml").read_text()
    assert "(1)" in text
    assert "(2)" in text
    short = [part for stage, steps in SHORT.items() if f"  {stage}:" in text
             for part in ("--set", f"stages.{stage}.budget.steps={steps}")]  # fmt: skip
    small = [part for setting in SMALL.get(name, ()) for part in ("--set", setting)]
    ended = folder.call("run", "r.yaml", *use, *short, *small)
    assert ended.code == 0, ended.err


def test_try_calls_the_reward(folder):
    """Each answer is shown with the columns and what the function returned."""
    use = new(folder, "reward")
    found = folder.call("try", "r.yaml", *use, "--stage", "explore", "--answer", "5", "--format", "json")
    first = json.loads(found.out.splitlines()[0])
    assert found.code == 0
    assert (first["key"], first["prompt"], first["text"]) == ("stages.explore", "2+3=", "5")
    assert (first["columns"]["answer"], first["rewards"], first["completion"]) == ("5", {"own": 1.0}, "5")


def test_try_finds_a_broken_step(folder):
    """A `step` that raises is shown with its line, without a model; a chat completion is shown as messages."""
    use = new(folder, "environment")
    assert "rewards  goal 1" in folder.call("try", "r.yaml", *use, "--answer", "r").out
    game = (folder.path / "game.py").read_text()
    folder.write(game__py=game.replace("self.place = min", "self.places = min"))
    broken = folder.call("try", "r.yaml", *use, "--answer", "r")
    assert broken.code == 0  # it only loses the way
    folder.write(game__py=game.replace("self.place == self.door", "self.place == self.doors"))
    broken = folder.call("try", "r.yaml", *use, "--answer", "r")
    assert (broken.code, broken.first) == (1, "RC922")
    assert "game.py:26: AttributeError" in broken.err


def test_chat_completions_are_shown_as_messages(folder):
    """With a chat prompt, the page says that the function gets messages."""
    use = new(folder, "reward")
    chat = ("--set", "stages.explore.data.chat=true", "--set", "stages.imitate.policy.chat_template=t.j2")
    folder.write(t__j2="{% for m in messages %}{{ m.content }}{% endfor %}")
    found = folder.call("try", "r.yaml", *use, *chat, "--stage", "explore")
    assert (found.code, found.first) == (1, "RC746")
    assert 'completion[0]["content"]' in found.err


def test_the_header_names_the_new_file(folder):
    """The command in the comment at the top is that of the file that was written."""
    new(folder, "reward")
    assert "`recipec run r.yaml --use rewards.py`" in (folder.path / "r.yaml").read_text()

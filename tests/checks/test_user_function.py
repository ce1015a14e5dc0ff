"""Reward functions are checked by their text, and never run."""

import pytest

from recipec.compile import compile_recipe

RECIPE = """recipec: 1
name: r
use: [./rewards.py]
stages:
  a:
    kind: rl
    from: org/name
    policy: {type: causal_lm}
    data: {path: a.jsonl}
    reward:
      own: {type: function, name: score}
    advantage: {g: {type: group_relative}}
    loss: {type: clipped}
    budget: {steps: 1}
"""


def found(tmp_path, text):
    """Return what RC622 says of a recipe beside this file of functions."""
    if text is not None:
        (tmp_path / "rewards.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{text}")
    (tmp_path / "r.yaml").write_text(RECIPE)
    diagnostics = compile_recipe(tmp_path / "r.yaml").diagnostics
    assert not (tmp_path / "ran").exists()
    return [d for d in diagnostics if d.code == "RC622"]


@pytest.mark.parametrize(
    "text",
    ["def score(completions, **columns): ...", "def score(data_source, solution_str, ground_truth): ...", None],
    ids=["trl", "verl", "not there"],
)
def test_functions_that_can_be_called(tmp_path, text):
    """Both signatures pass; a file that is not there is left to `run`."""
    assert found(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("def scores(completions): ...", 11, "did you mean `scores`?"),
        ("def score(text): ...", 11, "neither"),
        ("score = lambda completions: [0.0]", 11, "is a lambda"),
        ("class score: ...", 11, "is a class"),
        ("score = partial(other, 3)", 11, "is an object"),
        ("from judge import score", 11, "is imported"),
        ("def score(:", 2, "invalid syntax"),
        ("def _score(completions): ...", 11, "none"),
    ],
)
def test_functions_that_cannot(tmp_path, text, line, word):
    """An unknown name, a signature of neither kind are found in the recipe, a file that is not Python in itself."""
    (one,) = found(tmp_path, text)
    assert one.spans[0].line == line
    assert word in one.message + one.help


@pytest.mark.parametrize("name", ["rewards.score", "rewards.py:score", "./rewards.py/score"])
def test_a_function_with_its_file(tmp_path, name):
    """A name that ends in that of a function says which part to write."""
    (tmp_path / "rewards.py").write_text("def score(completions): ...\n")
    (tmp_path / "r.yaml").write_text(RECIPE.replace("name: score", f'name: "{name}"'))
    (one,) = [d for d in compile_recipe(tmp_path / "r.yaml").diagnostics if d.code in {"RC622", "RC150", "RC132"}]
    assert "write `name: score`" in one.help, one

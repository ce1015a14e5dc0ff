"""Running the user's files: only their own text, and their mistakes named by file and line."""

import pytest

from recipec.diagnostics.model import RecipeError
from recipec.runtime.user_code import load_functions


def written(tmp_path, text, name="rewards.py"):
    """Write a file of functions."""
    path = tmp_path / name
    path.write_text(text)
    return path


def test_functions_are_loaded_by_name(tmp_path):
    """Public functions are found; dataclasses and annotations work; no bytecode is left behind."""
    path = written(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass A:\n    x: int = 2\n\n"
        "def score(completions):\n    return [A().x]\n\ndef _own(): ...\n",
    )
    functions = load_functions([path])
    assert list(functions) == ["score"]
    assert functions["score"]([]) == [2]
    assert not (tmp_path / "__pycache__").exists()


def test_the_file_is_read_as_it_is_now(tmp_path):
    """An edit within the same second and of the same size is seen."""
    assert load_functions([written(tmp_path, "def f(): return 1")])["f"]() == 1
    assert load_functions([written(tmp_path, "def f(): return 2")])["f"]() == 2


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ("import nothing_of_that_name", 1, "nothing_of_that_name"),
        ("x = 1\nraise ValueError('no')", 2, "ValueError: no"),
        ("import sys\nsys.exit(3)", 2, "SystemExit"),
        ("x = 1\ndef f(:", 2, "invalid syntax"),
    ],
)
def test_broken_files(tmp_path, text, line, word):
    """A file that does not run to its end is RC750 with its line."""
    with pytest.raises(RecipeError) as caught:
        load_functions([written(tmp_path, f"{text}\ndef score(): ...")], ["score"])
    found = caught.value.diagnostics[0]
    assert (found.code, found.spans[0].line) == ("RC750", line)
    assert word in found.message


def test_only_files_whose_functions_are_taken_run(tmp_path):
    """A file whose functions nobody takes is not run; its names are known all the same."""
    world = written(tmp_path, "open('ran', 'w')\nraise ValueError('ran')\ndef helper(): ...", "maze.py")
    functions = load_functions([world, written(tmp_path, "def score(): return 1")], ["score", "none"])
    assert (sorted(functions), functions["score"]()) == (["helper", "score"], 1)


def test_two_functions_of_one_name(tmp_path):
    """A name that two files define is RC751."""
    paths = [written(tmp_path, "def f(): ...", name) for name in ("a.py", "b.py")]
    with pytest.raises(RecipeError) as caught:
        load_functions(paths)
    assert caught.value.diagnostics[0].code == "RC751"

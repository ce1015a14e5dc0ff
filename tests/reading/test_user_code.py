"""What is known of the user's functions without running them, and who may run them."""

import pytest

from recipec.diagnostics.model import RecipeError, Span
from recipec.reading.user_code import check_use, functions_in, words_of


def test_signatures_are_read_not_run(tmp_path):
    """Names, defaults and `**columns` come from the text; nothing in the file happens."""
    path = tmp_path / "rewards.py"
    path.write_text(
        "open('ran', 'w')\n\n"
        "def score(completions, answer, scale=1, *, strict, **columns):\n    return []\n\n"
        "async def other(data_source, solution_str, ground_truth, extra_info=None): ...\n"
    )
    functions = functions_in(path, "rewards.py")
    found = functions["score"]
    assert (found.required, found.optional, found.extra) == (("completions", "answer", "strict"), ("scale",), True)
    assert (found.form, found.line, found.columns()) == ("trl", 3, ("answer", "strict"))
    assert functions["other"].form == "verl"
    assert functions.keys() == {"score", "other"}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", [b"def f(:\n", b"\x00", b"# coding: nonsense\n", b"\xff"])
def test_files_that_are_no_python(tmp_path, text):
    """A file that cannot be parsed is RC750, and so is one that is not there."""
    path = tmp_path / "rewards.py"
    path.write_bytes(text)
    for file in (path, tmp_path / "none.py"):
        with pytest.raises(RecipeError) as caught:
            functions_in(file, "rewards.py")
        assert caught.value.diagnostics[0].code == "RC750"


def test_what_is_used_must_be_allowed(tmp_path):
    """Every file of `use` needs its `--use`, by whatever path; and no other may be allowed."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "rewards.py").touch()
    check_use(["./rewards.py"], [tmp_path / "sub" / ".." / "rewards.py"], tmp_path)
    with pytest.raises(RecipeError) as caught:
        check_use(["./rewards.py"], [tmp_path / "reward.py"], tmp_path)
    assert [d.code for d in caught.value.diagnostics] == ["RC620", "RC621"]


def test_a_file_that_is_not_there_cannot_be_allowed(tmp_path):
    """The advice is the name of a file that is there, at the entry of `use`, and not to allow what does not exist."""
    (tmp_path / "rewards.py").touch()
    place = Span("r.yaml", 2, 7, 2, 18)
    with pytest.raises(RecipeError) as caught:
        check_use(["./reward.py"], [], tmp_path, {"use.0": (place,)}.__getitem__)
    (problem,) = caught.value.diagnostics
    assert (problem.code, problem.path, problem.spans) == ("RC750", "use.0", (place,))
    assert "did you mean `rewards.py`?" in problem.help
    assert "--use" not in problem.help


def test_words_that_a_class_knows(tmp_path):
    """Texts of its comparisons, its branches, and of tables of the file; not those of other classes."""
    path = tmp_path / "game.py"
    path.write_text(
        "MOVES = {'up': 1}\nclass Other:\n    def f(self, a): return a == 'no'\n"
        "class Game:\n    def step(self, action):\n        if action in {'l', 'r'} or action == 'stay': pass\n"
        "        match action:\n            case 'jump': pass\n        return {'observation': ''}\n"
    )
    assert set(words_of([path], "Game")) == {"up", "l", "r", "stay", "jump"}
    assert words_of([path], "Absent") == []

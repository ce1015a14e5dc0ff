"""Every mistake in a reward function ends in a code with the function's name, never in its traceback."""

import json
import signal

import pytest
from support.small_recipes import RL, ROWS

USE = ("--use", "rewards.py")
GOOD = "def score(completions, **columns):\n    return [0.5] * len(completions)\n"

BEFORE = [
    ("def scores(completions, **columns):\n    return []\n", "RC622", "did you mean `scores`?"),
    ("def score(text):\n    return 1\n", "RC622", "takes neither `completions` nor `solution_str`"),
    ("score = lambda completions: [1.0]\n", "RC622", "is a lambda"),
    ("def score(:\n", "RC622", "rewards.py:1:1"),
    ("import no_such_module\n" + GOOD, "RC750", "rewards.py:1:1"),
    ("import sys\nsys.exit(3)\n" + GOOD, "RC750", "rewards.py:2:1"),
    ("raise ValueError('x')\n" + GOOD, "RC750", "ValueError: x"),
]
RETURNED = [
    ("[0.5]", "returned 1 values for 8 rows"),
    ("[float('nan')] * len(completions)", "returned nan for row 0"),
    ("[0.0, 1e400] * (len(completions) // 2)", "returned inf for row 1"),
    ("[10**400] * len(completions)", "returned inf for row 0"),
    ("['a'] * len(completions)", "returned a value of type str ('a') for row 0"),
    ("[[1]] * len(completions)", "returned a value of type list for row 0"),
    ("None", "a value of type NoneType"),
    ("0.5", "a value of type float"),
    ("iter([1])", "a list is needed"),
]
RAISED = ["1 / 0", "__import__('sys').exit(1)", "open('/no/such/file')", "score(completions)"]


def returning(value):
    """Write a function that returns an expression."""
    return f"def score(completions, **columns):\n    return {value}\n"


def test_code_runs_only_when_allowed(folder):
    """Without --use, or with another file, nothing is executed and both mistakes are named."""
    bomb = "open('ran', 'w').close()\n" + GOOD
    ended = folder.run(RL, a__jsonl=ROWS, rewards__py=bomb)
    assert (ended.code, ended.first) == (1, "RC620")
    assert "add --use rewards.py" in ended.err
    ended = folder.run(RL, "--use", "other.py", other__py=bomb)
    assert ended.code == 1
    assert "error[RC620]" in ended.err
    assert "error[RC621]" in ended.err
    assert not (folder.path / "ran").exists()


@pytest.mark.parametrize(("text", "code", "said"), BEFORE)
def test_a_file_that_cannot_be_used(folder, text, code, said):
    """A function that is missing, cannot be called or cannot be imported is refused with exit 1."""
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=text)
    assert (ended.code, ended.first) == (1, code)
    assert said in ended.err


def test_a_file_that_is_missing(folder):
    """A file under `use` that is not there is refused by name."""
    ended = folder.run(RL, *USE, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC750")


@pytest.mark.parametrize(("value", "said"), RETURNED)
def test_a_function_that_returns_no_scores(folder, value, said):
    """Scores of another count, type or size end the run with the function's name and the row."""
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=returning(value))
    assert (ended.code, ended.first) == (1, "RC747")
    assert "`score`" in ended.err
    assert said in ended.err


@pytest.mark.parametrize("value", RAISED)
def test_a_function_that_raises(folder, value):
    """What the function raises, sys.exit among it, ends the run with its file and line."""
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=returning(value))
    assert (ended.code, ended.first) == (1, "RC746")
    assert "rewards.py:2:1" in ended.err


TRL, VERL = "completions, **columns", "data_source, solution_str, ground_truth"


@pytest.mark.parametrize(
    ("head", "body", "says"),
    [
        (TRL, "return nothing", "it raises for every answer: correct rewards.py, line 2\n"),
        (VERL, "return nothing", "it raises for every answer: correct rewards.py, line 2\n"),
        (TRL, "return [c.nope for c in completions]", "correct rewards.py, line 2, or return 0 for an answer"),
        (TRL, "return [float(c.rstrip('.')) for c in completions]", "for the answer ''"),
        (VERL, "return float(solution_str)", "for the answer ''"),
    ],
)
def test_what_to_do_about_a_function_that_raises(folder, head, body, says):
    """One that raises for every answer is to be corrected; one that does not, to take the answer that is shown."""
    folder.write(r__yaml=RL, a__jsonl=ROWS, rewards__py=f"def score({head}):\n    {body}\n")
    found = folder.call("check", "r.yaml", *USE)
    assert (found.code, found.first) == (1, "RC746")
    assert says in found.err
    assert ("return 0 for an answer" in found.err) == ("nothing" not in body)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("def score(completions, trainer_state):\n    return []\n", "RC748", "write `trainer_state=None`"),
        ("def score(completions, ground_truth):\n    return []\n", "RC748", "is it `answer`?"),
        ("from .other import f\n" + GOOD, "RC750", "move the code of the other file into rewards.py"),
        (
            "def score(data_source, solution_str, ground_truth):\n    raise NotImplementedError(data_source)\n",
            "RC746",
            "the data has no column `data_source`",
        ),
        (
            "def score(prompts, completions):\n    return [0.0 * len(p) for p in prompts]\n",
            "RC928",
            "does not begin with it",
        ),
    ],
)
def test_what_functions_of_other_tools_expect(folder, text, code, says):
    """Parameters, columns and imports that other tools give are named, with what to write here."""
    folder.write(r__yaml=RL, a__jsonl=ROWS, rewards__py=text)
    found = folder.call("check", "r.yaml", *USE)
    assert f"[{code}]" in found.err
    assert says in found.err


def test_a_column_that_the_data_lacks(folder):
    """A required parameter that is no column is named."""
    text = "def score(completions, label):\n    return [1.0] * len(completions)\n"
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=text)
    assert (ended.code, ended.first) == (1, "RC748")
    assert "`label`" in ended.err


@pytest.mark.parametrize("value", ["{}", "'x'"])
def test_verl_functions_that_return_no_score(folder, value):
    """A mapping without `score`, or a text, from a function with verl's signature is refused with the row."""
    text = f"def score(data_source, solution_str, ground_truth, extra_info=None):\n    return {value}\n"
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=text)
    assert (ended.code, ended.first) == (1, "RC747")
    assert "row 0" in ended.err


def test_a_list_that_is_changed_by_the_function(folder):
    """A function that empties what it is given changes nothing of ours."""
    text = "def score(completions, **columns):\n    count = len(completions)\n    completions.clear()\n"
    text += "    return [1.0] * count\n"
    assert folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=text).code == 0


def test_a_broken_pattern(folder):
    """A regular expression that does not compile is found while validating, at its value."""
    recipe = RL.replace("{type: function, name: score}", "{type: regex_format, pattern: '('}")
    folder.write(r__yaml=recipe.replace("use: [./rewards.py]\n", ""))
    ended = folder.call("validate", "r.yaml")
    assert (ended.code, ended.first) == (1, "RC150")
    assert "not a valid regular expression" in ended.err


def test_a_column_to_compare_with_that_is_absent(folder):
    """exact_match against a column that the rows lack names it."""
    recipe = RL.replace("{type: function, name: score}", "{type: exact_match, answer: nope}")
    ended = folder.run(recipe.replace("use: [./rewards.py]\n", ""), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC741")
    assert "`nope`" in ended.err


def test_waiting_for_a_function_is_printed(folder, monkeypatch):
    """Whoever watches the run is told which function is waited for."""
    monkeypatch.setattr("recipec.host.waits.FIRST", 0.05)
    slow = "import time\ndef score(completions, **columns):\n    time.sleep(0.2)\n    return [0.5] * len(completions)\n"
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=slow)
    assert ended.code == 0, ended.err
    assert "waiting for reward function `score` of stages.explore, which may take 3600 s" in ended.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_check_ends_it(folder, number, code):
    """Before a step nothing has to be kept: the first signal ends a reward that hangs, and is no fault of it."""
    text = (
        f"import os\ndef score(completions, **columns):\n    os.kill(os.getpid(), {int(number)})\n    while 1: pass\n"
    )
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=text)
    assert ended.code == code, ended.err
    assert "RC7" not in ended.err


def test_a_second_signal_ends_a_reward_that_catches_the_first(folder, monkeypatch):
    """Code that goes on after every exception, and that may not end the process itself, is left all the same."""
    left = []
    monkeypatch.setattr("recipec.host.interrupts.leave", left.append)
    text = "import os\ndef score(completions, **columns):\n    for _ in range(2):\n        try:\n"
    text += f"            os.kill(os.getpid(), {int(signal.SIGINT)})\n        except BaseException:\n            pass\n"
    folder.run(RL, *USE, a__jsonl=ROWS, rewards__py=text + "    return [0.5] * len(completions)\n")
    assert left[:1] == [130]


def test_a_function_that_changes_the_directory(folder):
    """The run goes on where it began, in the default folder of runs."""
    text = "import os\n" + GOOD.replace("return", "os.chdir('/'); return")
    ended = folder.run(RL, *USE, a__jsonl=ROWS, rewards__py="import os\nos.chdir('/')\n" + text)
    assert ended.code == 0, ended.err
    assert (folder.path / "runs/small/model/config.json").exists()


def test_a_level_with_weight_zero_takes_no_part(folder, monkeypatch):
    """A level that could not score a row, with weight 0, fails no row and changes no reward."""
    monkeypatch.setattr("recipec.runtime.reward.rule_based.MATCH_SECONDS", 1e-6)
    recipe = RL.replace(
        "      right: {type: function, name: score}\n",
        "      right: {type: function, name: score}\n"
        "      slow: {type: regex_format, pattern: '(a|a|.)*(a|a|.)*(a|a|.)*!', weight: 0.0}\n",
    ).replace("max_completion_length: 4", "max_completion_length: 48")
    ended = folder.run(recipe, *USE, a__jsonl=ROWS, rewards__py=GOOD)
    assert ended.code == 0, ended.err
    (metrics,) = folder.path.glob("runs/*/stages/explore/metrics.jsonl")
    for line in metrics.read_text().splitlines():
        assert json.loads(line)["failed_rows"] == 0
        assert json.loads(line)["reward"] == 0.5

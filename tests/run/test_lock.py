"""A lock file holds everything outside of a recipe that its results depend on; `doctor` says what a machine has."""

import importlib.metadata
import json

import pytest
from support.small_recipes import RL, ROWS, SFT

from recipec.run import doctor, lock

REWARDS = "def score(completions, answer, **columns):\n    return [0.0 for _ in completions]\n"
USE = ("--use", "rewards.py")
HELD_OUT = "evaluate: {held_out: {data: {path: b.jsonl}, metrics: [loss]}}\n"


@pytest.fixture
def locked(folder):
    """A recipe with data, held-out data and a reward function, and its lock file."""
    folder.write(r__yaml=RL + HELD_OUT, a__jsonl=ROWS, b__jsonl=ROWS, rewards__py=REWARDS)
    ended = folder.call("lock", "r.yaml", *USE)
    assert (ended.code, ended.out) == (0, "r.lock\n"), ended.err
    return folder


def test_what_is_locked(locked):
    """Files, functions, packages and settings, by name; the file is the same if it is written again."""
    text = (locked.path / "r.lock").read_text()
    found = json.loads(text)
    assert set(found["files"]) == {"a.jsonl", "b.jsonl"}
    assert set(found["functions"]) == {"score"}
    assert set(found["settings"]) == {"explore", "evaluate.held_out"}
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    locked.call("lock", "r.yaml", *USE)
    assert (locked.path / "r.lock").read_text() == text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a__jsonl": ROWS + ROWS}, "a.jsonl is"),
        ({"b__jsonl": ROWS + ROWS}, "b.jsonl is"),
        ({"rewards__py": REWARDS.replace("0.0", "1.0")}, "score is"),
        ({"r__yaml": RL.replace("1.0e-3", "2.0e-3") + HELD_OUT}, "settings of explore are others"),
        ({"r__yaml": RL + HELD_OUT.replace("[loss]", "[margin]")}, "settings of evaluate.held_out are others"),
    ],
)
def test_a_locked_run_refuses_what_differs(locked, files, words):
    """RC975 names it, before the run directory is made."""
    locked.write(**files)
    ended = locked.call("run", "r.yaml", "--locked", *USE)
    assert (ended.code, ended.first) == (1, "RC975"), ended.err
    assert words in ended.err
    assert not (locked.path / "runs").exists()


def test_a_locked_run_refuses_another_version(locked, monkeypatch):
    """Another version of a package that computes is a difference."""
    monkeypatch.setattr(lock, "version", lambda name: "9.9" if name == "torch" else importlib.metadata.version(name))
    ended = locked.call("run", "r.yaml", "--locked", *USE)
    assert ended.first == "RC975"
    assert "torch is 9.9, was" in ended.err


def test_a_locked_run_runs_where_nothing_differs(locked):
    """Comments, trackers and the machine are not locked."""
    other = f"# a comment\n{RL}{HELD_OUT}machine: {{max_restarts: 1}}\n"
    locked.write(r__yaml=other, rewards__py=f"# a comment\n{REWARDS}")
    ended = locked.call("run", "r.yaml", "--locked", *USE)
    assert ended.code == 0, ended.err


def test_no_lock_file(folder):
    """RC976 where there is none or it is something else; RC977 where a file has no hash to be locked."""
    folder.write(r__yaml=SFT, a__jsonl=ROWS)
    assert folder.call("run", "r.yaml", "--locked").first == "RC976"
    for text in ("{", "[]", '{"format": 9}'):
        folder.write(r__lock=text)
        assert folder.call("run", "r.yaml", "--locked").first == "RC976"
    (folder.path / "a.jsonl").unlink()
    assert folder.call("lock", "r.yaml").first in {"RC700", "RC977"}


def test_a_model_that_is_not_in_the_cache(folder, monkeypatch):
    """RC977 names it: without a commit it cannot be told from a later version."""
    monkeypatch.setenv("HF_HUB_CACHE", str(folder.path / "hub"))
    text = SFT.replace("from: scratch", "from: nobody/nothing-123")
    text = "\n".join(line for line in text.splitlines() if "scratch:" not in line and "policy:" not in line)
    folder.write(r__yaml="\n".join(line for line in text.splitlines() if "type: causal_lm" not in line), a__jsonl=ROWS)
    ended = folder.call("lock", "r.yaml")
    assert ended.first == "RC977", ended.err
    assert "nobody/nothing-123" in ended.err


def test_every_extra_is_described():
    """`doctor` knows what each extra of the installed package is for."""
    assert [extra.name for extra in doctor.extras() if not extra.use] == []


def test_doctor(folder):
    """Versions and devices, as text and as JSON; installed extras lack nothing."""
    found = json.loads(folder.call("doctor", "--format", "json").out)
    assert found["facts"]["torch"] == importlib.metadata.version("torch")
    assert found["devices"][0] == "cpu"
    assert next(extra for extra in found["extras"] if extra["name"] == "train")["missing"] == []
    text = folder.call("doctor").out
    assert f"torch         {found['facts']['torch']}" in text

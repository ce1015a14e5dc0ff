"""Guards for systems other than Linux, where no run was tried: this is what they would do there."""

import sys
from pathlib import Path

import pytest
from support.small_recipes import ROWS, SFT

from recipec.host import platforms
from recipec.host.artifacts import sync


@pytest.fixture
def on_windows(monkeypatch):
    """Let the guards see Windows."""
    monkeypatch.setattr(platforms, "windows", lambda: True)


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("name: small", "name: small\nmachine: {devices: 2}", "several devices"),
        ("name: small", "name: NUL", "`NUL`"),
        ("name: small", "name: small.", "`small.`"),
        ("learn:", "aux:", "`aux`"),
    ],
)
def test_what_windows_does_not_have_is_refused_first(folder, on_windows, old, new, word):
    """RC979 at its key, before anything is trained; elsewhere the same recipe has nothing wrong with it."""
    ended = folder.run(SFT.replace(old, new), a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC979")
    assert word in ended.err
    assert "r.yaml:" in ended.err
    assert not (folder.path / "runs").exists() or not list((folder.path / "runs").rglob("metrics.jsonl"))


def test_processes_with_limits_are_refused(folder, on_windows):
    """A template runs in a process with limits, which Windows has not."""
    asked = SFT.replace("a.jsonl}", 'a.jsonl, template: "{{ prompt }}?"}')
    ended = folder.run(asked, a__jsonl=ROWS)
    assert (ended.code, ended.first) == (1, "RC979"), ended.err


def test_folders_are_not_synced(tmp_path: Path, on_windows, monkeypatch):
    """A folder cannot be opened there; its files are made durable."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.txt").write_text("b")
    assert [platforms.syncable(path) for path in (tmp_path / "a", tmp_path / "a/b.txt")] == [False, True]
    sync(tmp_path / "a")


def test_nothing_is_guarded_here():
    """On this system the guards do nothing."""
    assert platforms.windows() == (sys.platform == "win32")
    platforms.refuse_windows("a test")

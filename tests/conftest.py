"""One torch thread in every test, no deadlines: on busy cores threads wait for each other; a project to write into."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes files into a project and the working directory."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = Path(name.replace("__", "/") + ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    """Return a folder to write a small recipe into and to run it there."""
    from support.small_recipes import Folder

    return Folder(tmp_path, monkeypatch, capsys)

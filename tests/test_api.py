"""What `import recipec` offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import recipec
from recipec.component import Component, components_of
from recipec.spec.recipe import COMPONENT_SLOTS


def test_type_checkers_see_what_there_is() -> None:
    """The imports for type checkers are those that are made on demand."""
    tree = ast.parse(Path(recipec.__file__).read_text("utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == recipec._HOME
    assert sorted(seen) == recipec.__all__


@pytest.mark.parametrize("name", recipec.__all__)
def test_names_are_there(name: str) -> None:
    """Each name can be imported, and is what its module says."""
    assert getattr(recipec, name).__name__ == name
    assert name in dir(recipec)


def test_every_component_has_its_class() -> None:
    """Whatever a recipe can name, a program can build."""
    classes = [cls for slot in COMPONENT_SLOTS for cls in components_of(slot).values()]
    assert [cls.__name__ for cls in classes if getattr(recipec, cls.__name__, None) is not cls] == []
    assert all(issubclass(cls, Component) for cls in classes)


def test_importing_is_cheap() -> None:
    """Importing the package imports neither pydantic nor torch."""
    script = "import sys, recipec; print({'pydantic', 'torch', 'yaml'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_name_that_is_not_there() -> None:
    """Asking for another name fails as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'Ppo'"):
        _ = recipec.Ppo

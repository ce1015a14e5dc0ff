"""A declarative compiler of LLM post-training recipes.

Everything a recipe can say has a class of the same name here: ``recipec.Recipe``, ``recipec.Stage``,
``recipec.Chain``, ``recipec.GroupRelative``.  Nothing is imported before it is used.
"""

from __future__ import annotations

import ast
import functools
import importlib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any


@functools.cache
def _homes() -> dict[str, str]:
    """Map each public name to its module; ``__init__.pyi`` has them, so that type checkers know them too."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {name.name: str(node.module) for node in imports for name in node.names if name.asname}


class Verb(ModuleType):
    """A module with the name of a function of :mod:`recipec.api`, which it calls.

    ``recipec.run`` and ``recipec.compile`` are the functions, whatever modules below them were imported before.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        function = getattr(importlib.import_module("recipec.api"), self.__name__.rpartition(".")[2])
        return function(*args, **kwargs)


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name == "__version__":
        return version("recipec")
    if name == "__all__":
        return sorted(_homes())
    if name.startswith("__") or name not in _homes():
        raise AttributeError(f"module 'recipec' has no attribute {name!r}")
    value = getattr(importlib.import_module(_homes()[name]), name)
    if _homes()[name].startswith("recipec.spec."):
        value.model_rebuild()  # fields and signature of a model that is built on first use
    return value


def __dir__() -> list[str]:
    """List all public names."""
    return [*globals(), *_homes()]

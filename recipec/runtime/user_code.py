"""The one place where the user's own code runs: files that the command line allowed, loaded by path."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import RecipeError
from recipec.reading.user_code import functions_in


class _Loader(SourceFileLoader):
    """Compile the file as it is now: stored bytecode is neither trusted nor written next to the user's file."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class Functions(Mapping[str, Callable[..., Any]]):
    """The public top-level functions of the user's files, by name; a file runs when one of its functions is taken.

    So a file that only has environments, which run in processes of their own, never runs in this one.

    Example: ``load_functions([Path("rewards.py")])["score"]``.
    """

    def __init__(self, home: Mapping[str, Path]) -> None:
        """Take the file of each function."""
        self.home = home
        self.modules: dict[Path, Any] = {}

    def __getitem__(self, name: str) -> Callable[..., Any]:
        path = self.home[name]
        if path not in self.modules:
            self.modules[path] = load_file(path)
        found: Callable[..., Any] = getattr(self.modules[path], name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.home)

    def __len__(self) -> int:
        return len(self.home)


def load_functions(paths: Sequence[Path], wanted: Sequence[str] = ()) -> Functions:
    """Find the public top-level functions of files that the command line allowed; load those ``wanted`` at once.

    Raises:
        RecipeError: RC750 a file cannot be loaded, RC751 two of them define the same function.
    """
    home: dict[str, Path] = {}
    for path in paths:
        for name in functions_in(path, path.name):
            if name in home:
                raise RecipeError(errors.function_twice(name, (str(home[name]), str(path))))
            if not name.startswith("_"):
                home[name] = path
    found = Functions(home)
    for name in wanted:
        if name in found:
            found[name]
    return found


def load_file(path: Path) -> Any:
    """Run a file that the command line allowed and return its module.

    Raises:
        RecipeError: RC750, it cannot be loaded.
    """
    name = f"_recipec_use_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Loader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and typing look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises is reported
        del sys.modules[name]
        line = blamed(error, str(path))
        problem = f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
        raise RecipeError(errors.own_file_broken(path.name, line, problem)) from None
    return module


def blamed(error: BaseException, file: str) -> int:
    """Return the last line of ``file`` in an exception's traceback, 0 where it is not in it."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 0
    trace: TracebackType | None = error.__traceback__
    return next((f.lineno or 0 for f in reversed(traceback.extract_tb(trace)) if f.filename == file), 0)


def file_of(function: Callable[..., Any]) -> str:
    """Return the file that defines a function, behind its decorators."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code is not None else ""

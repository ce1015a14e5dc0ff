"""The one place where the user's own code runs: files that the command line allowed, loaded by path."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, TracebackType
from typing import Any

from recipec.diagnostics import Refused
from recipec.faults import reward as faults
from recipec.own import functions_in


class _Loader(SourceFileLoader):
    """Compile the file as it is now: no stored bytecode is trusted, none is left beside the user's file."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def load_functions(paths: Sequence[Path]) -> Mapping[str, Callable[..., Any]]:
    """Run the files that the command line allowed; return their public top-level functions by name.

    Raises:
        Refused: RC750 a file cannot be loaded, RC751 two of them define the same function.
    """
    found: dict[str, Callable[..., Any]] = {}
    home: dict[str, str] = {}
    for path in paths:
        names = functions_in(path, path.name)
        module = _load(path)
        for name in names:
            if name.startswith("_"):
                continue
            if name in found:
                raise Refused(faults.function_twice(name, (home[name], str(path))))
            found[name], home[name] = getattr(module, name), str(path)
    return found


def _load(path: Path) -> Any:
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
        raise Refused(faults.own_file_broken(path.name, line, problem)) from None
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

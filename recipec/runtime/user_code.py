"""The one place where the user's own code runs: files that the command line allowed, loaded by path."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import linecache
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, NoReturn

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import RecipeError, Span, file_span
from recipec.host.waits import waiting
from recipec.reading.user_code import functions_in

_PLACE = re.compile(r"(?:.*?: )?([^:/\\\\ ]+\.py):(\d+): ")


class TooLongError(BaseException):
    """The user's code took longer than its limit; not an `Exception`, which it may catch."""


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
        function: Callable[..., Any] = getattr(self.modules[path], name)
        return function

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
    functions = Functions(home)
    for name in wanted:
        if name in functions:
            functions[name]
    return functions


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
        with calling(f"the import of {path.name}"):
            spec.loader.exec_module(module)
    except (Exception, SystemExit, BaseExceptionGroup) as error:  # noqa: BLE001 - whatever the user's code raises is reported
        del sys.modules[name]
        line = blamed(error, str(path))
        problem = f"{type(error).__name__}: {text_of(error)[:200]}".rstrip(": ")
        missing = str(error.name or "") if isinstance(error, ModuleNotFoundError) else ""
        column = max(error.offset or 1, 1) if isinstance(error, SyntaxError) and line else 1
        sibling = missing.isidentifier() and path.with_name(f"{missing}.py").is_file()
        text = linecache.getline(str(path), line)
        raise RecipeError(
            errors.own_file_broken(path.name, line, problem, column, missing, text, sibling=sibling)
        ) from None
    return module


@contextmanager
def calling(what: str, seconds: float | None = None) -> Iterator[None]:
    """Run the user's code in the block: with a limit, and with what it changes for the whole process put back.

    That is the working directory, torch's threads, types and modes, and signal handlers.  ``os._exit`` raises.

    Raises:
        TooLongError: it took longer than ``seconds``.
        SystemExit: it called ``os._exit``.
    """
    with ExitStack() as closing:
        closing.enter_context(waiting(what, seconds))
        closing.enter_context(_process_state())
        if seconds is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, _too_long)
            closing.callback(signal.setitimer, signal.ITIMER_REAL, 0.0)
            signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again each second, should the code catch it
        yield


def _too_long(_number: int, _frame: FrameType | None) -> None:
    raise TooLongError


@contextmanager
def _process_state() -> Iterator[None]:
    owner, leave, folder = os.getpid(), os._exit, Path.cwd()
    torch = sys.modules.get("torch")  # the processes of environments do without
    settings = [] if torch is None else [(put, get(), more) for get, put, more in _torch_settings(torch)]
    main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM) if main else ()
    handlers = {number: signal.getsignal(number) for number in numbers}

    def refuse(status: int) -> NoReturn:
        if os.getpid() != owner:  # a child that the user's code forked ends as it wants
            leave(status)
        raise SystemExit(f"os._exit({status})")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = leave
        if Path.cwd() != folder:
            os.chdir(folder)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for put, value, more in settings:
            put(value, **more)


def _torch_settings(torch: Any) -> list[tuple[Callable[[], Any], Callable[..., Any], dict[str, Any]]]:
    """Pairs of functions that read and set what torch holds for the whole process."""
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    return [
        (torch.get_num_threads, torch.set_num_threads, {}),
        (torch.get_default_dtype, torch.set_default_dtype, {}),
        (torch.is_grad_enabled, torch.set_grad_enabled, {}),
        (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms, {"warn_only": warns}),
    ]


def text_of(error: BaseException) -> str:
    """Return the text of an exception, which the user's own class may refuse to give."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the user's code
        return ""


def blamed(error: BaseException, file: str) -> int:
    """Return the last line of ``file`` in an exception's traceback, 0 where it is not in it."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 0
    trace: TracebackType | None = error.__traceback__
    return next((f.lineno or 0 for f in reversed(traceback.extract_tb(trace)) if f.filename == file), 0)


def shown_name(path: Path, root: Path) -> str:
    """Name a file of the user's as the user would: relative to the folder of the recipe, where it is below it."""
    whole, root = path.resolve(), root.resolve()
    return str(whole.relative_to(root)) if whole.is_relative_to(root) else path.name


def place_in(text: str, use: Sequence[Path], root: Path) -> tuple[Span, ...]:
    """Return the place in a file of the user's that a message from another process begins with.

    >>> place_in("game.py:7: KeyError: 'x'", [Path("/r/game.py")], Path("/r"))[0].line
    7
    """
    match = _PLACE.match(text)
    path = next((path for path in use if match is not None and path.name == match[1]), None)
    return file_span(shown_name(path, root), int(match[2])) if match is not None and path is not None else ()


def definition_of(function: Callable[..., Any]) -> tuple[str, int]:
    """Return file and first line of a function behind its decorators; nothing and 0 for one that is not in Python.

    >>> definition_of(len)
    ('', 0)
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    return ("", 0) if code is None else (code.co_filename, code.co_firstlineno)

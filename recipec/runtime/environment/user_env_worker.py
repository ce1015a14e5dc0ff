"""Worker of a user's environment class; the file is loaded only in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from recipec.diagnostics.model import RecipeError
from recipec.reading.user_code import WORLD, classes_in
from recipec.runtime.environment.worker_main import BadObservation, GameError, checked, live
from recipec.runtime.user_code import blamed, definition_of, load_file


class Guarded:
    """An instance of the user's class; its exceptions are reported with the line of the user's file.

    Example: ``Guarded(lambda: Maze(size=4), "maze.py")``.
    """

    def __init__(self, make: Callable[[], Any], file: str, line: int = 0) -> None:
        """Build the instance; ``line`` is that of the class."""
        self.file, self.line = file, line
        self.inner = self.call(make)

    def call(self, function: Callable[..., Any], *values: Any) -> Any:
        """Call the user's code."""
        try:
            return function(*values)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - any exception of the user's code is reported
            where = _place(self.file, blamed(error, self.file) or self.line)
            raise GameError(f"{where}: {type(error).__name__}: {str(error)[:500]}".rstrip(": ")) from None

    def reset(self, task: Mapping[str, Any], seed: int) -> Any:
        """Begin an episode."""
        return self.answered(self.inner.reset, task, seed)

    def step(self, action: str) -> Any:
        """Take an action."""
        return self.answered(self.inner.step, action)

    def answered(self, method: Callable[..., Any], *values: Any) -> Any:
        """Call a method, and refuse an answer that is not valid with the line of the method."""
        answer = self.call(method, *values)
        try:
            checked(answer)
        except BadObservation as error:
            where = _place(self.file, definition_of(method)[1])
            raise GameError(f"{where}: `{method.__name__}`: {_instead(answer) or error}") from None
        return answer


def _place(file: str, line: int) -> str:
    return f"{Path(file).name}:{line}" if line else Path(file).name


def _instead(answer: Any) -> str:
    """Say what to return in place of nothing, or of the tuple of an environment of gymnasium or gym."""
    if answer is None:
        return (
            "it returned nothing; return the next observation, or a mapping with `observation`, `reward`, `terminated`"
        )
    names = {2: "observation", 4: "observation, reward, terminated", 5: "observation, reward, terminated, truncated"}
    if not isinstance(answer, tuple) or len(answer) not in names:
        return ""
    written = ", ".join(f'"{name}": {name}' for name in names[len(answer)].split(", "))
    return f"it returned a tuple of {len(answer)}, as for gymnasium; return a mapping: {{{written}}}"


def serve(argument: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Handler of :mod:`recipec.host.worker_pool`: instances of ``{files, name, options}``.

    Only the first file with the class is loaded.

    Raises:
        GameError: a file cannot be loaded, no file has the class, or it refuses its options.
    """
    name, line = argument["name"], 0
    try:
        known = ((path, classes_in(Path(path), Path(path).name, WORLD)) for path in argument["files"])
        file, line = next(((path, classes[name].line) for path, classes in known if name in classes), (None, 0))
        kind = getattr(load_file(Path(file)), name) if file is not None else None
    except RecipeError as error:
        problem = error.diagnostics[0]
        where = f"{problem.spans[0].file}:{problem.spans[0].line}: " if problem.spans else ""
        raise GameError(f"{where}{problem.message}") from None
    if file is None or kind is None:
        raise GameError(f"no file under `use` has a class `{name}`")

    def make() -> Guarded:
        return Guarded(lambda: kind(**argument["options"]), file, line)

    first = make()  # reports wrong options
    listed = getattr(kind, "tasks", None)

    def rows(split: str, size: int | None, seed: int) -> Any:
        listing = listed(split, size, seed) if listed is not None else ()
        return list(islice(listing, size)) if isinstance(listing, Iterable) else listing

    def tasks(split: str, size: int | None, seed: int) -> Any:
        listing = first.call(rows, split, size, seed)
        where = _place(file, (0 if listed is None else definition_of(listed)[1]) or line)
        if not isinstance(listing, list):
            raise GameError(f"{where}: `{name}.tasks` returned {type(listing).__name__}, not a list of mappings")
        other = next((task for task in listing if not isinstance(task, Mapping)), None)
        if other is not None:
            raise GameError(f"{where}: `{name}.tasks` listed {type(other).__name__} in place of a mapping")
        return [dict(task) for task in listing]

    return live(make, tasks if listed is not None else None)

"""The worker side of tools: loads the user's functions and calls them, only in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recipec.diagnostics.model import RecipeError
from recipec.reading.user_code import functions_in
from recipec.runtime.environment.tools.schemas import function_schema
from recipec.runtime.user_code import blamed, load_file

LONGEST = 64 << 10
"""Most characters of a result."""


class ToolError(Exception):
    """A tool cannot be loaded; the text is the whole message."""


def serve(argument: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Handler of :mod:`recipec.host.worker_pool`: the functions of ``{files, names}``.

    A request ``{schemas: true}`` is answered with the schemas of all; ``{call: [name, arguments]}`` with ``[result,
    whether it raised]``, both results as text.

    Raises:
        ToolError: a file cannot be loaded, no file has a function, or one has parameters that have no name.
    """
    functions = {name: _loaded(name, argument["files"]) for name in argument["names"]}
    try:
        schemas = [function_schema(function) for function, _ in functions.values()]
    except TypeError as error:
        raise ToolError(str(error)) from None

    def answer(request: Mapping[str, Any]) -> Any:
        if "schemas" in request:
            return schemas
        name, arguments = request["call"]
        function, file = functions[name]
        try:
            result = function(**arguments)
            text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises is a result
            line = blamed(error, file)
            where = f"{Path(file).name}:{line}: " if line else ""
            return [f"{where}{type(error).__name__}: {str(error)[:500]}".rstrip(": "), True]
        return [text[:LONGEST].encode("utf-8", "replace").decode(), False]

    return answer


def _loaded(name: str, files: list[str]) -> tuple[Callable[..., Any], str]:
    try:
        file = next((path for path in files if name in functions_in(Path(path), Path(path).name)), None)
        if file is None:
            raise ToolError(f"no file under `use` has a function `{name}`")
        return getattr(load_file(Path(file)), name), file
    except RecipeError as error:
        problem = error.diagnostics[0]
        where = f"{problem.spans[0].file}:{problem.spans[0].line}: " if problem.spans else ""
        raise ToolError(f"{where}{problem.message}") from None

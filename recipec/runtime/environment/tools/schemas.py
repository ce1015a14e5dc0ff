"""Descriptions of functions for chat templates: name, purpose and parameters as JSON Schema, from their source."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

_KINDS = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "object",
    list: "array",
    tuple: "array",
}
_ARGUMENTS = re.compile(
    r"\n\s*Args:\s*\n(?P<body>.*?)(?=\n\s*(?:Returns|Raises|Yields|Example|Examples):|\Z)", re.DOTALL
)
_ARGUMENT = re.compile(r"^\s*(?P<name>\w+)(?:\s*\([^)]*\))?\s*:\s*(?P<text>.*)$")


def function_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the schema of a function, as of transformers' ``get_json_schema``.

    Types are those of its annotations; descriptions those of its docstring, with its section ``Args:``.

    >>> def add(a: int, b: int = 0) -> int:
    ...     '''Add two numbers.
    ...
    ...     Args:
    ...         a: The first one.
    ...     '''
    >>> made = function_schema(add)["function"]["parameters"]
    >>> made["properties"]["a"], made["required"]
    ({'type': 'integer', 'description': 'The first one.'}, ['a'])

    Raises:
        TypeError: a parameter cannot be given by name.
    """
    text = inspect.getdoc(function) or ""
    described = _described(text)
    try:
        hints = typing.get_type_hints(function)
    except NameError:
        hints = {}
    properties, required = {}, []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}:
            raise TypeError(f"its parameter `{name}` cannot be given by name")
        shape = _shape(hints.get(name))
        properties[name] = shape | ({"description": described[name]} if name in described else {})
        if parameter.default is parameter.empty:
            required.append(name)
    purpose = re.split(r"\n\s*Args:", f"\n{text}")[0].strip()
    parameters = {"type": "object", "properties": properties, "required": required}
    function_of = {"name": function.__name__, "description": purpose, "parameters": parameters}
    return {"type": "function", "function": function_of}


def _described(text: str) -> dict[str, str]:
    """Return the descriptions of parameters in a docstring."""
    section = _ARGUMENTS.search(f"\n{text}")
    descriptions: dict[str, str] = {}
    last = ""
    for line in section["body"].splitlines() if section else ():
        if begun := _ARGUMENT.match(line):
            last = begun["name"]
            descriptions[last] = begun["text"].strip()
        elif last and line.strip():
            descriptions[last] = f"{descriptions[last]} {line.strip()}"
    return descriptions


def _shape(hint: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type; it is empty for types that have none."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return {"enum": list(arguments)} | _shape(type(arguments[0]))
    if origin in {typing.Union, types.UnionType}:
        known = [one for one in arguments if one is not type(None)]
        return _shape(known[0]) if len(known) == 1 else {}
    kind = _KINDS.get(origin or hint)
    if kind is None:
        return {}
    inner = _shape(arguments[0]) if kind == "array" and arguments else {}
    return {"type": kind} | ({"items": inner} if inner else {})

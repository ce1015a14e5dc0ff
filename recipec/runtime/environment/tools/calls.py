"""Tool calls in the text of a turn, in the forms of chat templates: Hermes and Qwen, Llama 3, Mistral."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Form = Literal["hermes", "llama", "mistral"]
_HERMES = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_MISTRAL = "[TOOL_CALLS]"
_NAMED = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\w*)?\[ARGS\]")
_PYTHON = "<|python_tag|>"
_JSON = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a turn; ``problem`` says why it cannot be made.

    Example: ``Call("search", {"query": "sea"})``.
    """

    name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""


def form_of(template: str) -> Form:
    """Return the form of calls that a chat template teaches: by the marks it writes, else bare JSON as of Llama 3.

    >>> form_of("…<tool_call>…"), form_of("…[TOOL_CALLS]…"), form_of("…ipython…")
    ('hermes', 'mistral', 'llama')
    """
    return "hermes" if "<tool_call>" in template else "mistral" if _MISTRAL in template else "llama"


def read_calls(text: str, form: Form) -> list[Call]:
    """Return the calls of a turn, in order; a turn without any is an answer.

    >>> read_calls('I look. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>', "hermes")
    [Call(name='add', arguments={'a': 1}, problem='')]
    >>> read_calls('{"name": "add", "parameters": {"a": 1}}', "llama")[0].arguments
    {'a': 1}
    >>> read_calls('[TOOL_CALLS][{"name": "add"}, {"name": "sub"}]', "mistral")[1].name
    'sub'
    >>> read_calls("It is 3.", "llama"), read_calls("<tool_call>add</tool_call>", "hermes")[0].problem
    ([], 'it is not JSON')
    """
    if form == "hermes":
        return [_one(part) for part in _HERMES.findall(text)]
    if form == "mistral":
        _, mark, rest = text.partition(_MISTRAL)
        return list(_mistral(rest)) if mark else []
    body = text.strip().removeprefix(_PYTHON).strip()
    if not body.startswith("{") or '"name"' not in body:
        return []
    return list(_several(body))


def _mistral(text: str) -> Iterator[Call]:
    """Read a list of calls, or calls as `name[ARGS]{…}`."""
    if not (named := list(_NAMED.finditer(text))):
        yield from _several(text.strip())
        return
    for match in named:
        try:
            arguments, _ = _JSON.raw_decode(text[match.end() :].lstrip())
        except (ValueError, RecursionError):
            yield Call(match[1], problem="its arguments are not JSON")
            continue
        yield _made({"name": match[1], "arguments": arguments})


def _several(text: str) -> Iterator[Call]:
    """Read JSON objects, or a list of them, with spaces and semicolons between."""
    while text:
        try:
            parsed, end = _JSON.raw_decode(text)
        except (ValueError, RecursionError):
            yield Call(problem="it is not JSON")
            return
        yield from map(_made, parsed if isinstance(parsed, list) else [parsed])
        rest = text[end:].lstrip(" \t\r\n;")
        text = rest if rest.startswith(("{", "[")) else ""


def _one(text: str) -> Call:
    try:
        return _made(json.loads(text))
    except (ValueError, RecursionError):
        return Call(problem="it is not JSON")


def _made(parsed: Any) -> Call:
    """Return a call of parsed JSON; arguments may be their JSON text, as some models write them."""
    if isinstance(parsed, Mapping) and isinstance(parsed.get("function"), Mapping):
        parsed = parsed["function"]
    if not isinstance(parsed, Mapping) or not isinstance(parsed.get("name"), str):
        return Call(problem="it has no `name`")
    arguments = parsed.get("arguments", parsed.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            arguments = None
    if arguments is not None and not isinstance(arguments, Mapping):
        return Call(parsed["name"], problem="its arguments are not an object")
    return Call(parsed["name"], arguments or {})

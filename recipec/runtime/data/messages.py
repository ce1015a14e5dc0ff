"""Columns with text and conversations: checked, and in one form whichever file they come from.

A key with null counts as absent, at any depth: parquet files have every key of a column in every row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.jsonl import kind_of
from recipec.runtime.batch import Message, text_of
from recipec.runtime.data.files import Row
from recipec.runtime.data.image_parts import read_content
from recipec.spec.data import Columns

ROLES = ("system", "developer", "user", "assistant", "tool")
SHAREGPT = {"human": "user", "gpt": "assistant", "observation": "tool"}
"""Roles of ShareGPT that have another name here."""
_OTHER_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
SAID = (
    "tool_calls", "function_call", "function_calls", "reasoning_content", "reasoning", "reasoning_details", "thinking",
    "thinking_blocks", "tool_plan",
)  # fmt: skip
"""Keys of a message with what an assistant writes besides its content."""
SHOWN = ("tools", "functions")
"""Keys of a message with what it shows the model besides its content."""
TRAIN = "train"
"""Key of a message with whether it is trained, where the row states it; no template sees it."""
TRAIN_KEYS: Mapping[str, tuple[Any, Any]] = {"weight": (0, 1), TRAIN: (False, True), "loss": (False, True)}
"""Keys with which data state it: those of OpenAI, Axolotl and ms-swift, and their values."""
_PARTLY = ("train_detail", "loss_scale", "loss_weight")
"""Keys with which data of other tools train parts of a message, or weigh it."""
_SPEAKER = re.compile(r"""['"](?:role|from)['"]\s*:\s*['"](?:system|user|assistant|tool|human|gpt)['"]""")
"""Who speaks, in a list of messages as JSON or as Python writes it."""
DEPTH = 64
Text = str | Sequence[Message]


def read_text(row: Row, column: str) -> Text:
    """Return a column that is text or a conversation, checked.

    Raises:
        RecipeError: RC706 or RC707.
    """
    value = row.columns[column]
    if isinstance(value, str):
        _check_text(row, column, value)
        if value.lstrip().startswith("[") and value.rstrip().endswith("]") and _SPEAKER.search(value):
            problem = "is a conversation written out as text, and would be trained letter by letter"
            raise RecipeError(errors.wrong_type(row.file, row.number, column, problem, "write the list itself"))
        return value
    return read_messages(row, column)


def read_conversation(row: Row, column: str) -> Sequence[Message]:
    """Return a column that is a whole conversation, also in the keys of ShareGPT.

    Raises:
        RecipeError: RC706 or RC707.
    """
    value = row.columns[column]
    if not isinstance(value, list):
        return read_messages(row, column)
    spelt = {**row.columns, column: [_spelt(message) for message in value]}
    return read_messages(replace(row, columns=spelt), column)


def read_messages(row: Row, column: str) -> Sequence[Message]:
    """Return a column that is a conversation, checked message by message.

    Raises:
        RecipeError: RC706 or RC707.
    """
    value = row.columns[column]
    if not isinstance(value, list):
        forms = "a list of chat messages" if isinstance(value, str) else "text or a list of chat messages"
        problem = f"must be {forms}, this is {kind_of(value)}"
        one = isinstance(value, Mapping) and "role" in value
        remedy = "it is one message: write a list of it, `[{…}]`" if one else ""
        if isinstance(value, str) and value.lstrip().startswith("["):
            remedy = f"it is JSON in a text: write the list itself, `row[{column!r}] = json.loads(row[{column!r}])`"
        raise RecipeError(errors.wrong_type(row.file, row.number, column, problem, remedy))
    if not value:
        raise RecipeError(errors.empty_text(row.file, row.number, column))
    return [_checked(row, f"{column}[{number}]", message) for number, message in enumerate(value)]


def read_variables(row: Row, columns: Columns) -> dict[str, Any]:
    """Return what a row gives the chat template besides messages: its tools, and what it calls by other names.

    Raises:
        RecipeError: RC706.
    """
    variables: dict[str, Any] = {}
    for name, kind, expected in (
        (columns.chat_template_kwargs, Mapping, "an object"),
        (columns.tools, list, "a list of tools"),
    ):
        value = row.columns.get(name) if name else None
        plain = value
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                raise RecipeError(errors.wrong_type(row.file, row.number, name, f"is not {expected} as JSON")) from None
        if not value:
            continue
        if not isinstance(value, kind):
            problem = f"must be {expected}, this is {kind_of(value)}"
            raise RecipeError(errors.wrong_type(row.file, row.number, name, problem))
        filled = without_nulls(row, name, value)
        value = filled if plain is value else value  # in JSON text a null was written by someone
        if kind is Mapping:
            variables |= value
        else:
            variables["tools"] = [_tool(row, f"{name}[{number}]", tool) for number, tool in enumerate(value)]
    return variables


def _tool(row: Row, where: str, tool: Any) -> Any:
    if isinstance(tool, str):
        try:
            tool = json.loads(tool)
        except (ValueError, RecursionError):
            tool = None
    if not isinstance(tool, Mapping):
        raise RecipeError(errors.wrong_type(row.file, row.number, where, "must be an object that describes a tool"))
    return tool


def without_nulls(row: Row, where: str, value: Any, depth: int = 0) -> Any:
    """Return a value without the keys that have null.

    Raises:
        RecipeError: RC706, it is nested too deeply.
    """
    if depth > DEPTH:
        problem = f"is nested more than {DEPTH} deep"
        raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))
    if isinstance(value, Mapping):
        return {k: without_nulls(row, where, v, depth + 1) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(row, where, v, depth + 1) for v in value]
    return value


def _checked(row: Row, where: str, value: Any) -> Message:
    """Return a message if its content is text, or parts of text and places for images."""
    message = without_nulls(row, where, value)
    says_more = isinstance(message, Mapping) and any(message.get(key) for key in SAID)
    if problem := _problem(message, value, says_more=says_more):
        shares = isinstance(message, Mapping) and {"from", "value"} <= message.keys()
        remedy = "in a prompt, write `role` for `from` (user, assistant) and `content` for `value`" if shares else ""
        raise RecipeError(errors.wrong_type(row.file, row.number, where, problem, remedy))
    content = message.get("content", "")
    if not isinstance(content, str):
        content = read_content(row, where, message["role"], content)
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    may_be_empty = says_more or message["role"] in {"system", "tool"} or not isinstance(content, str)
    _check_text(row, where, text, empty=may_be_empty)
    return _with_calls(row, where, _with_training(row, where, {**message, "content": content}))


def _problem(message: Any, given: Any, *, says_more: bool) -> str:
    """Say why a value is not a message, of which ``given`` has the nulls; return an empty text if it is one."""
    problem = ""
    if not isinstance(message, Mapping):
        several = ": write a row for each text of the list" if isinstance(message, str) else ""
        problem = f"must be a chat message, this is {kind_of(message)}{several}"
    elif "role" in message and "content" in given and given["content"] is None and not says_more:
        problem = "must have text as its `content`, this is null"
    elif "role" not in message or ("content" not in message and not says_more):
        have = ", ".join(f"`{key}`" for key in list(given)[:6])
        problem = f"needs `role` and `content`, it has {have or 'nothing'}"
    elif message["role"] not in ROLES:
        instead = _OTHER_ROLES.get(str(message["role"]))
        known = f"write {instead!r}" if instead else f"known are {', '.join(ROLES)}"
        problem = f"has the role {message['role']!r}, {known}"
    elif says_more and message["role"] != "assistant":
        problem = f"has {' and '.join(f'`{key}`' for key in SAID if message.get(key))}, and is not the assistant's"
    elif not isinstance(message.get("content", ""), str | list):
        problem = f"must have text as its `content`, this is {kind_of(message['content'])}"
    return problem


def _spelt(message: Any) -> Any:
    """Return a message of ShareGPT, with `from` and `value`, as one with `role` and `content`.

    >>> _spelt({"from": "human", "value": "Hello"})
    {'role': 'user', 'content': 'Hello'}
    """
    if not isinstance(message, Mapping) or "role" in message or not {"from", "value"} <= message.keys():
        return message
    more = {key: value for key, value in message.items() if key not in {"from", "value"}}
    return {"role": SHAREGPT.get(message["from"], message["from"]), "content": message["value"], **more}


def _with_training(row: Row, where: str, message: dict[str, Any]) -> dict[str, Any]:
    """Mark a message of the assistant by one key where the row states whether it is trained."""
    marks = {key: message.pop(key, None) for key in TRAIN_KEYS}
    for key, value in marks.items():
        if value is not None and value not in TRAIN_KEYS[key]:
            problem = f"has `{key}` {value!r}, known are {TRAIN_KEYS[key][0]} and {TRAIN_KEYS[key][1]}"
            raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))
    for key in _PARTLY:
        if message.pop(key, None) is not None:
            problem = "trains a part of a message, which nothing reads: mark whole messages by `train`"
            raise RecipeError(errors.unused_column(row.file, row.number, f"{where}.{key}", problem))
    stated = [bool(value) for value in marks.values() if value is not None]
    if message["role"] != "assistant":
        if marks[TRAIN]:
            problem = f"has `{TRAIN}`, and is not the assistant's: the answers of the assistant alone are trained"
            raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))
        return message
    if len(set(stated)) > 1:
        problem = f"is marked as trained and as not trained: keep one of {', '.join(f'`{key}`' for key in TRAIN_KEYS)}"
        raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))
    return {**message, TRAIN: stated[0]} if stated else message


def _with_calls(row: Row, where: str, message: dict[str, Any]) -> dict[str, Any]:
    """Read the arguments of tool calls that are given as JSON text: a template would write them as a string."""
    calls = message.get("tool_calls")
    if calls is None:
        return message
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        problem = "must have a list of objects as its `tool_calls`"
        raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))
    return {**message, "tool_calls": [_call(row, where, call) for call in calls]}


def _call(row: Row, where: str, call: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(call.get("function"), Mapping):
        return {**call, "function": _call(row, where, call["function"])}
    arguments = call.get("arguments")
    if not isinstance(arguments, str):
        return call
    try:
        parsed = json.loads(arguments) if arguments.strip() else {}  # a null in it was written by someone
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        problem = "has a tool call with `arguments` that are neither an object nor the JSON text of one"
        raise RecipeError(errors.wrong_type(row.file, row.number, where, problem))
    without_nulls(row, where, parsed)  # it is not nested too deeply
    return {**call, "arguments": parsed}


def calls_as_text(messages: Sequence[Message]) -> list[Message]:
    """Return messages with the arguments of tool calls as JSON text, as some templates want them."""

    def text(call: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(call.get("function"), Mapping):
            return {**call, "function": text(call["function"])}
        if isinstance(call.get("arguments"), Mapping):
            return {**call, "arguments": json.dumps(call["arguments"], ensure_ascii=False, default=str)}
        return call

    return [{**m, "tool_calls": [text(c) for c in m["tool_calls"]]} if m.get("tool_calls") else m for m in messages]


def _check_text(row: Row, where: str, text: str, *, empty: bool = False) -> None:
    if not empty and not text.strip():
        raise RecipeError(errors.empty_text(row.file, row.number, where))
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RecipeError(errors.wrong_type(row.file, row.number, where, "holds half a surrogate pair")) from None


def talk(turn_text: Text, role: str) -> Sequence[Message]:
    """Return text as one message of a role, and messages as they are."""
    return [{"role": role, "content": turn_text}] if isinstance(turn_text, str) else turn_text


def bare(message: Message) -> tuple[str, str]:
    """Return the role and the text of a message, for comparisons."""
    return str(message["role"]), text_of(message["content"]).strip()


def check_one_form(row: Row, columns: tuple[str, str], pair: tuple[Text, Text]) -> None:
    """Refuse a pair of which one answer is text, and the other a conversation.

    Raises:
        RecipeError: RC706.
    """
    chosen, rejected = pair
    if isinstance(chosen, str) != isinstance(rejected, str):
        text, chat = columns if isinstance(chosen, str) else reversed(columns)
        problem, remedy = f"is text, and `{chat}` is a list of chat messages", "write both in one form"
        raise RecipeError(errors.wrong_type(row.file, row.number, text, problem, remedy))


def shared_beginning(one: Text, other: Text) -> int:
    """Count the messages that two conversations begin with, up to the last before an answer of the assistant."""
    shared = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return min(shared, min(len(one), len(other)) - 1)


_LABELS = {"true": True, "false": False}


def read_label(row: Row, column: str) -> bool | None:
    """Return whether an answer is good: true or false, also as 1 or 0 or as text; None for all else.

    >>> [read_label(Row(0, "a.jsonl", 1, {"good": value}), "good") for value in (True, 0, 1.0, "False", "no", 2)]
    [True, False, True, False, None, None]
    """
    label = row.columns.get(column)
    if isinstance(label, str):
        return _LABELS.get(label.strip().lower())
    return bool(label) if isinstance(label, bool | int | float) and label in (0, 1) else None


def read_system(row: Row, column: str, prompt: Text) -> str | None:
    """Return the system message that a row has in a column of its own; None where it has none.

    Raises:
        RecipeError: RC706, it is not text; RC878, the conversation has another one.
    """
    system = row.columns.get(column) if column else None
    if system is None or system == "":
        return None
    if not isinstance(system, str):
        raise RecipeError(errors.wrong_type(row.file, row.number, column, f"must be text, this is {kind_of(system)}"))
    _check_text(row, column, system, empty=True)
    if not isinstance(prompt, str) and prompt[0]["role"] == "system" and bare(prompt[0])[1] != system.strip():
        problem = "differs from the system message of the conversation: keep one of them"
        raise RecipeError(errors.unused_column(row.file, row.number, column, problem))
    return system


def read_number(row: Row, column: str) -> float | None:
    """Return a finite number of a row; None where the column has none.

    >>> read_number(Row(0, "a.jsonl", 1, {"margin": 2}), "margin"), read_number(Row(0, "a.jsonl", 1, {}), "margin")
    (2.0, None)
    """
    number = row.columns.get(column)
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal) or not math.isfinite(number):
        return None
    return float(number)

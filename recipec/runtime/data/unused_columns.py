"""Columns and marks of a row that would change what is trained, and that the stage does not use: RC878.

Several columns may have the conversation of a row.  Those that are not used have to agree with those that are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.runtime.batch import Example, Message, Task, text_of
from recipec.runtime.data.files import Row
from recipec.runtime.data.messages import (
    TRAIN,
    TRAIN_KEYS,
    Text,
    bare,
    read_conversation,
    read_messages,
    read_text,
    talk,
)
from recipec.spec.data import Columns

_DIFFERS = "differs from the conversation that is used in its place: keep one of them"


def _refuse(row: Row, column: str, problem: str) -> RecipeError:
    return RecipeError(errors.unused_column(row.file, row.number, column, problem))


def squeezed(text: str) -> str:
    """Return a text without its white space.

    >>> squeezed(" 2 + 2 ")
    '2+2'
    """
    return "".join(text.split())


def check_agrees(row: Row, column: str, used: Sequence[Message]) -> None:
    """Refuse a column that differs from the conversation that is used in its place.

    Raises:
        RecipeError: RC878.
    """
    if row.columns.get(column) is None:
        return
    answer = read_text(row, column)
    if isinstance(answer, str):
        agrees = any(text_of(message["content"]).strip() == answer.strip() for message in used)
    else:
        agrees = [bare(m) for m in answer] == [bare(m) for m in used][: len(answer)]
        own = [bare(m) for m in used if m["role"] != "system"]
        agrees = agrees or [bare(m) for m in answer] == own[: len(answer)]
    if not agrees:
        raise _refuse(row, column, _DIFFERS)


def whole_prompt(row: Row, column: str, shared: Sequence[Message]) -> Sequence[Message]:
    """Return the prompt that both conversations of a pair begin with, with what the column of prompts has before it.

    Raises:
        RecipeError: RC878, the column has another prompt.
    """
    if isinstance(row.columns.get(column), list):
        messages = read_messages(row, column)
        before = messages[: max(0, len(messages) - len(shared))]
        if before and [bare(m) for m in messages[len(before) :]] == [bare(m) for m in shared]:
            return messages
    check_agrees(row, column, shared)
    return shared


def check_conversation(row: Row, column: str, prompt: Text) -> None:
    """Refuse a conversation with turns before the last answer that are not in the prompt, which is used in its place.

    A column of that name with other values is something else.

    Raises:
        RecipeError: RC878.
    """
    given = row.columns.get(column)
    if not isinstance(given, list) or not all(_is_message(message) for message in given):
        return
    messages = list(read_conversation(row, column)) if given else []
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not _holds([text_of(message["content"]) for message in talk(prompt, "user")], _texts(messages)):
        raise _refuse(row, column, f"has turns that the prompt lacks, which is used in its place: {_remedy(column)}")


def check_text(row: Row, column: str, used: Sequence[Message]) -> None:
    """Refuse a text that differs from the conversation that is trained: neither is a part of the other.

    The text may have the markup of a chat template, or be one of the messages.

    Raises:
        RecipeError: RC878.
    """
    text, texts = row.columns.get(column), _texts(used)
    if isinstance(text, str) and text.strip() and not _holds([text], texts) and not _holds(texts, [text]):
        raise _refuse(row, column, f"differs from the messages, which are trained in its place: {_remedy(column)}")


def _remedy(column: str) -> str:
    return f"keep one of them, or set the name of `{column}` under data.columns to an empty text"


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


def _texts(messages: Sequence[Message]) -> list[str]:
    return [text_of(message.get("content") or "") for message in messages]


def _holds(whole: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether texts have all of others in them, in their order, whatever their white space."""
    text, begin = squeezed("".join(whole)), 0
    for part in map(squeezed, parts):
        if (found := text.find(part, begin)) < 0:
            return False
        begin = found + len(part)
    return True


def check_other_turns(row: Row, names: Columns, rendered: Collection[str]) -> None:
    """Refuse parts of a prompt in columns that other tools read, but for those that a template has ``rendered``.

    LLaMA-Factory reads earlier turns in `history`, and Alpaca's instructions go with an `input`.

    Raises:
        RecipeError: RC878.
    """
    turns, more = row.columns.get("history"), row.columns.get("input")
    pairs = isinstance(turns, list) and turns and all(isinstance(turn, list) and len(turn) == 2 for turn in turns)
    if pairs and "history" not in rendered:
        problem = "holds earlier turns, which nothing reads: write the whole conversation as chat messages"
        raise _refuse(row, "history", problem)
    instructs = "instruction" in (rendered or (names.prompt,))
    if instructs and isinstance(more, str) and more.strip() and "input" not in {*rendered, names.completion}:
        problem = (
            'goes with `instruction`, and nothing reads it: set data.template to "{{ instruction }}\\n{{ input }}"'
        )
        raise _refuse(row, "input", problem)


def bad_answer(file: str, number: int) -> Diagnostic:
    """Return RC878 for an answer that a row labels as bad, where the loss reads no labels."""
    problem = (
        "says that the answer is bad, and the loss of the stage would raise its probability: use `loss: {type: kto}`, "
        "leave such rows out, or set data.columns.label to an empty text"
    )
    return errors.unused_column(file, number, "label", problem)


def check_labels(
    rows: Iterable[tuple[Task, *tuple[Example, ...]]],
    signals: Collection[str],
    place: Callable[[Task], tuple[str, int]],
) -> None:
    """Refuse answers that are labelled as bad where no loss reads labels; ``signals`` are those of the stage.

    Raises:
        RecipeError: RC878.
    """
    bad = next((task for task, *examples in rows for example in examples if example.label is False), None)
    if bad is not None and "desirable_R" not in signals:
        raise RecipeError(bad_answer(*place(bad)))


def check_all_trained(row: Row, columns: Sequence[str]) -> None:
    """Refuse messages that are marked as not trained, where every token is.

    Raises:
        RecipeError: RC878.
    """
    for column in columns:
        messages = row.columns.get(column)
        for number, message in enumerate(messages if isinstance(messages, list) else ()):
            if isinstance(message, Mapping) and 0 in [message.get(key) for key in TRAIN_KEYS]:
                problem = "is marked as not trained, and `data.train_on: all` trains every token"
                raise _refuse(row, f"{column}[{number}]", problem)


def check_prompt_untrained(row: Row, prompt: Text) -> None:
    """Refuse turns of a prompt that are marked as trained: answers alone are.

    Raises:
        RecipeError: RC878.
    """
    for message in () if isinstance(prompt, str) else prompt:
        if message.get(TRAIN):
            problem = "marks a turn of the prompt as trained, and answers alone are: write one conversation for `sft`"
            raise _refuse(row, TRAIN, problem)


def check_compared_whole(row: Row, column: str, answer: Text) -> None:
    """Refuse marks of turns in an answer that a reward model scores as a whole.

    Raises:
        RecipeError: RC878.
    """
    for number, message in enumerate(() if isinstance(answer, str) else answer):
        if message.get(TRAIN) is False:
            raise _refuse(row, f"{column}[{number}]", "is marked as not trained, and a reward model scores all of it")

"""The token that the chat template writes after an answer: a policy that learns to write it has to stop there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from recipec.diagnostics.model import RecipeError
from recipec.runtime.data.text import Text, protect

ANSWERS = ("x", "7")
"""Answers without a common letter: what their renderings end with alike comes from the template."""


def mark(tokenizer: Any, stop_ids: Collection[int], say: Callable[[str], None]) -> list[int]:
    """Return the id of the token that ends an answer where no stop id does, made a control token and noted.

    Nothing is returned where the template writes a stop id after an answer, or no token of its own.
    """
    tail, added = _after_answer(Text(tokenizer)), tokenizer.added_tokens_decoder
    end = next((token for token in tail if token in added), None)
    if end is None or set(tail) & set(stop_ids):
        return []
    name = str(added[end].content)
    protect(tokenizer, [name])
    say(f"`{name}` ends the assistant's turns and is added to the stop tokens of the policy")
    return [int(end)]


def _after_answer(text: Text) -> list[int]:
    """Return the ids that the chat template writes after an answer; none where it refuses short conversations."""
    if not text.tokenizer.chat_template:
        return []
    for in_parts in (False, True):  # some templates of vision-language models read content in parts alone
        for earlier in (["user"], ["system", "user"]):
            one, other = (_rendered(text, [*earlier, "assistant"], answer, in_parts=in_parts) for answer in ANSWERS)
            if one != other:
                return one[len(one) - common_end(one, other) :]
    return []


def common_end(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the ids that two sequences end with alike.

    >>> common_end([1, 2, 3], [4, 2, 3])
    2
    """
    pairs = enumerate(zip(reversed(one), reversed(other), strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _rendered(text: Text, roles: Sequence[str], answer: str, *, in_parts: bool) -> list[int]:
    def content(role: str) -> Any:
        words = answer if role == "assistant" else "hello"
        return [{"type": "text", "text": words}] if in_parts else words

    try:
        return text.render([{"role": role, "content": content(role)} for role in roles], generation=False)
    except RecipeError:
        return []

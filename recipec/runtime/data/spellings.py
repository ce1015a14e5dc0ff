"""Hide what spells a control token in the values of a chat template, and put it back into the rendered text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError

_PRIVATE = range(0xF0000, 0xFFFFE)
"""Characters without a meaning, of which a single one stands for a hidden spelling: no template can cut it in two."""
_LONGEST = 256
"""Longer names are hidden as a whole alone."""
_PLAIN = ("role", "type")
"""Keys with words of the chat format as values, from which templates build their own control tokens."""


class Spellings:
    """The names of control tokens, whole and in part.

    A template joins texts with each other and with its own, so a text may also end like the beginning of a control
    token, begin like the end of one, or be the middle of one.

    Example: ``Spellings(["<eos>"]).hide(["a <eos>", "<e"])``.
    """

    def __init__(self, control: Iterable[str]) -> None:
        names = sorted(filter(None, control), key=len, reverse=True)
        self._whole = re.compile("|".join(map(re.escape, names))) if names else None
        parted = [name for name in names if len(name) <= _LONGEST]
        self._begins = {name[:end] for name in parted for end in range(1, len(name))}
        self._ends = {name[start:] for name in parted for start in range(1, len(name))}
        self._middles = "\0".join(name[1:-1] for name in parted)
        self._longest = max(map(len, parted), default=1) - 1

    def pieces(self, text: str) -> list[tuple[str, str]]:
        """Split a text at the control tokens in it: pairs of the text before one and its name, the last one empty."""
        if self._whole is None:
            return [(text, "")]
        parts, at = [], 0
        for match in self._whole.finditer(text):
            parts.append((text[at : match.start()], match[0]))
            at = match.end()
        return [*parts, (text[at:], "")]

    def hide(self, value: Any) -> tuple[Any, dict[str, str]]:
        """Return a value with private characters in place of spellings, and what each of them stands for.

        Raises:
            RecipeError: RC730, there are more spellings, or private characters, than private characters are left.
        """
        if self._whole is None:
            return value, {}
        marks: dict[str, str] = {}
        used = {c for text in _texts(value) if not text.isascii() for c in text}
        free = (chr(number) for number in _PRIVATE if chr(number) not in used)

        def mark(spelling: str) -> str:
            stand_in = next(free, None)
            if stand_in is None:
                raise RecipeError(errors.template_refuses("the messages have too many private characters"))
            marks[stand_in] = spelling
            return stand_in

        def hidden(one: Any, key: object = None, *, name: bool = False) -> Any:
            if isinstance(one, str):
                return self._hidden(one, mark, middle=not name and key not in _PLAIN)
            if isinstance(one, Mapping):
                return {hidden(k, name=True): hidden(v, k) for k, v in one.items()}
            return [hidden(v, key) for v in one] if isinstance(one, list | tuple) else one

        return hidden(value), marks

    def _hidden(self, text: str, mark: Any, *, middle: bool) -> str:
        assert self._whole is not None
        if middle and text and text in self._middles:
            return str(mark(text))
        text = self._whole.sub(lambda match: mark(match[0]), text)
        most = min(self._longest, len(text))
        end = next((n for n in range(most, 0, -1) if text[-n:] in self._begins), 0)
        text = text[: len(text) - end] + mark(text[-end:]) if end else text
        most = min(self._longest, len(text))
        start = next((n for n in range(most, 0, -1) if text[:n] in self._ends), 0)
        return mark(text[:start]) + text[start:] if start else text


def restored(text: str, marks: Mapping[str, str]) -> str:
    """Return a text with the spellings put back, also where ``tojson`` has escaped their characters."""
    for mark, spelling in marks.items():
        text = text.replace(mark, spelling).replace(json.dumps(mark)[1:-1], spelling)
    return text


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _texts(key)
            yield from _texts(inner)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for inner in value:
            yield from _texts(inner)

"""Between text and token ids: what users and models write never becomes a control token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.chat_template import chat_template
from recipec.runtime.data.renamed_tokens import RenamedTokens
from recipec.runtime.data.spellings import Spellings, restored

_TAG = re.compile(r"<[A-Za-z][\w-]*>")
_TAIL = 16
"""Tokens before a text that decide how it is split."""
_LEADS = ("\n", "=", "x", ".", "7")
"""Texts to put before a text where what is there already does not part from it."""


def protect(tokenizer: Any, marks: Sequence[str]) -> None:
    """Make tokens control tokens, which no text may spell; those that are new get ids at the end."""
    control = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    if missing := [mark for mark in marks if mark not in control]:
        tokenizer.add_special_tokens({"additional_special_tokens": missing}, replace_extra_special_tokens=False)


def tags_of(tokenizer: Any) -> dict[int, str]:
    """Return the control tokens that are tags, such as `<think>` and `</think>`: a reader and a reward see them."""
    roles = set(map(str, tokenizer.special_tokens_map.values()))
    added = tokenizer.added_tokens_decoder.items()
    names = {str(t.content): int(i) for i, t in added if t.special and str(t.content) not in roles}
    tags = [(opens, f"</{opens[1:]}") for opens in names if _TAG.fullmatch(opens)]
    return {names[tag]: tag for pair in tags if pair[1] in names for tag in pair}


def decode_with_tags(tokenizer: Any, ids: Iterable[int], tags: Mapping[int, str]) -> str:
    """Decode ids without control tokens other than ``tags``."""
    texts: list[str] = []
    run: list[int] = []
    for one in [*ids, None]:
        if one is not None and one not in tags:
            run.append(int(one))
            continue
        texts.append(tokenizer.decode(run, skip_special_tokens=True, clean_up_tokenization_spaces=False) if run else "")
        texts.append("" if one is None else tags[one])
        run = []
    return "".join(texts)


class Text:
    """A tokenizer that keeps text and control tokens apart."""

    def __init__(self, tokenizer: Any, now: str = "", template_from: str = "") -> None:
        """Wrap a Hugging Face fast tokenizer; ``now`` is the time for chat templates that write it.

        ``template_from`` is the dotted key of the recipe that the chat template comes from.
        """
        self.tokenizer = tokenizer
        self.now = now
        self._template_from = template_from
        added = tokenizer.added_tokens_decoder.items()
        self.control = {int(number): str(token.content) for number, token in added if token.special}
        self._ids = {name: number for number, name in self.control.items()}
        self._spellings = Spellings(self._ids)

    @cached_property
    def _renamed(self) -> RenamedTokens:
        return RenamedTokens(self.tokenizer.backend_tokenizer, self.control)

    @cached_property
    def _tags(self) -> dict[int, str]:
        return tags_of(self.tokenizer)

    @cached_property
    def _prefixes(self) -> bool:
        """Whether the tokenizer puts something before a text, so that it matters what comes before it."""
        encode, alone = self._renamed.encode, self._renamed.encode(["x"])
        return not any(encode([f"{lead}x"]) == [*encode([lead]), *alone] for lead in _LEADS)

    def encode(self, text: str, after: Sequence[int] = ()) -> list[int]:
        """Encode text that follows the ids ``after``; where it spells a control token, that is letters only.

        A tokenizer may put a space before a text.  There is none between a text and the text that it continues:
        ``after`` and the result decode to what the whole text decodes to.
        """
        if not after or not self._prefixes:
            return self._renamed.encode([text])
        tail: list[int] = []
        for one in reversed(after[-_TAIL:]):
            if one in self.control:
                break
            tail.insert(0, one)
        if not tail and after[-1] in self.control:
            return self._renamed.encode([after[-1], text])[1:]
        before = self.decode(tail)
        alone, together = self._renamed.encode([text]), self.decode(self._renamed.encode([before + text]))
        if self.decode([*tail, *alone]) == together or not before:
            return alone
        for lead in (before, *_LEADS):
            start, both = self._renamed.encode([lead]), self._renamed.encode([lead + text])
            rest = both[len(start) :]
            if both[: len(start)] == start and self.decode([*tail, *rest]) == together:
                return rest
        return alone

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids, leaving control tokens out but for tags such as `<think>`."""
        return decode_with_tags(self.tokenizer, ids, self._tags)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        generation: bool = True,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Encode messages by the chat template; only it adds control tokens.  ``generation`` opens an answer.

        ``variables`` are what the template gets besides the messages, such as ``tools``.

        Raises:
            RecipeError: RC729, there is no chat template; RC730, it refuses the messages.
        """
        template_values = {"tools": None, "documents": None, **(variables or {})}
        if not self.tokenizer.chat_template:
            raise RecipeError(errors.no_chat_template())
        try:
            source = self.tokenizer.get_chat_template(tools=template_values["tools"])
            # a template sees texts as the values of messages, which are separate: adjacent parts are one text
            hidden, marks = self._spellings.hide(
                [[_joined(message) for message in messages], *template_values.values()]
            )
        except (ValueError, RecursionError) as error:
            raise RecipeError(errors.template_refuses(str(error).partition("\n")[0])) from None
        values = {**self.tokenizer.special_tokens_map, **dict(zip(template_values, hidden[1:], strict=True))}
        values |= {"messages": hidden[0], "add_generation_prompt": generation}
        try:
            text = chat_template(source, self.now).render(values)
        except RecipeError as error:
            # one that is itself wrong is placed where the recipe names it
            diagnostics = (replace(one, path=self._template_from) if one.path else one for one in error.diagnostics)
            raise RecipeError(*diagnostics) from None
        pieces: list[str | int] = []
        for piece, name in self._spellings.pieces(text):
            pieces += [restored(piece, marks), *([self._ids[name]] if name else [])]
        return self._renamed.encode(pieces)


def _joined(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Join adjacent parts of text: a template writes them without anything between."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts: list[Any] = []
    for part in content:
        if parts and _is_text(parts[-1]) and _is_text(part):
            parts[-1] = {"type": "text", "text": f"{parts[-1]['text']}{part['text']}"}
        else:
            parts.append(part)
    return {**message, "content": parts}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"

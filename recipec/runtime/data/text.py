"""Between text and token ids: what users and models write never becomes a control token."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError

_GUARD = "\ue000{}\ue001"  # private-use characters: no template and no tokenizer gives them a meaning


def protect(tokenizer: Any, marks: Sequence[str]) -> None:
    """Make tokens control tokens, which no text may spell; those that are new get ids at the end."""
    control = {str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special}
    if missing := [mark for mark in marks if mark not in control]:
        tokenizer.add_special_tokens({"additional_special_tokens": missing}, replace_extra_special_tokens=False)


class Text:
    """A tokenizer that keeps text and control tokens apart."""

    def __init__(self, tokenizer: Any) -> None:
        """Wrap a Hugging Face fast tokenizer."""
        self.tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder.values()
        self.control = sorted({str(t.content) for t in added if t.special}, key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, self.control))) if self.control else None

    def encode(self, text: str) -> list[int]:
        """Encode text; where it spells a control token, that is letters only."""
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids
        return [int(i) for i in ids]

    def decode(self, ids: Iterable[int]) -> str:
        """Decode ids, leaving control tokens out."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def render(self, messages: Sequence[Mapping[str, Any]], *, generation: bool = True) -> list[int]:
        """Encode messages by the chat template; only it adds control tokens.  ``generation`` opens an answer.

        Raises:
            RecipeError: RC729, there is no chat template; RC730, it refuses the messages.
        """
        if not self.tokenizer.chat_template:
            raise RecipeError(errors.no_chat_template())
        guarded: dict[str, str] = {}
        safe = [self._guard(dict(message), guarded) for message in messages]
        try:
            text = str(self.tokenizer.apply_chat_template(safe, add_generation_prompt=generation, tokenize=False))
            text.encode()  # raises for half a surrogate pair
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise RecipeError(errors.template_refuses(str(error))) from error
        if not guarded:
            return [int(i) for i in self.tokenizer(text, add_special_tokens=False).input_ids]
        return self._pieces(text, guarded)

    def _guard(self, value: Any, guarded: dict[str, str]) -> Any:
        if isinstance(value, str):
            if self._split is None:
                return value

            def hide(match: re.Match[str]) -> str:
                mark = _GUARD.format(self.control.index(match[0]))
                guarded[mark] = match[0]
                return mark

            return self._split.sub(hide, value)
        if isinstance(value, Mapping):
            return {k: self._guard(v, guarded) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._guard(v, guarded) for v in value]
        return value

    def _pieces(self, text: str, guarded: Mapping[str, str]) -> list[int]:
        """Encode the text between the control tokens of the template, with the hidden spellings put back."""
        assert self._split is not None
        ids: list[int] = []
        at = 0
        for match in [*self._split.finditer(text), None]:
            piece = text[at : match.start() if match else len(text)]
            for mark, spelling in guarded.items():
                piece = piece.replace(mark, spelling)
            if piece:
                ids += self.encode(piece)
            if match:
                ids.append(int(self.tokenizer.convert_tokens_to_ids(match[0])))
                at = match.end()
        return ids

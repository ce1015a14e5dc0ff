"""Encode text between control tokens in one go, where the text may spell control tokens itself."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from recipec.diagnostics.errors import model as errors
from recipec.diagnostics.model import RecipeError

_LEAD, _FIRST = "\U0010fffd", 0x100000


class RenamedTokens:
    """A copy of a tokenizer with other names for its control tokens, which do not occur in a text, and the same ids.

    The text is split, stripped and prefixed around the renamed tokens as around the tokenizer's own, so ids are those
    of the whole text.  What spells a control token's own name is letters, also where it is a piece of the model.

    Example: ``RenamedTokens(tokenizer.backend_tokenizer, {1: "<bos>", 2: "<eos>"}).encode([1, "user: <eos>", 2])``.
    """

    def __init__(self, backend: Tokenizer, control: Mapping[int, str]) -> None:
        """``control`` has the name of every control id."""
        self._backend = backend
        self._control = {name: chr(_FIRST + place) for place, name in enumerate(control.values())}
        self._numbers = {name: number for number, name in control.items()}
        self._place = {number: chr(_FIRST + place) for place, number in enumerate(control)}
        self._copies = functools.lru_cache(maxsize=2)(self._copy)

    def encode(self, pieces: Sequence[str | int]) -> list[int]:
        """Encode texts, and ids of control tokens between them.

        Raises:
            RecipeError: RC735, the tokenizer fails on the text.
        """
        longest, text = 1, "".join(piece for piece in pieces if isinstance(piece, str))
        while _LEAD * longest in text:
            longest += 1
        lead = _LEAD * longest
        joined = "".join(one if isinstance(one, str) else lead + self._place[one] for one in pieces)
        try:
            return list(self._copies(lead).encode(joined, add_special_tokens=False).ids)
        except BaseException as error:
            # a panic of the library does not derive from Exception
            if isinstance(error, Exception) or type(error).__name__ == "PanicException":
                problem = str(error).partition("\n")[0][:200] or type(error).__name__
                raise RecipeError(errors.unreadable("the tokenizer", f"it fails on a text: {problem}")) from None
            raise

    def _copy(self, lead: str) -> Tokenizer:
        config: dict[str, Any] = json.loads(self._backend.to_str())
        config |= {"truncation": None, "padding": None, "post_processor": None}
        model = config["model"]
        if model.get("dropout"):  # merges would be drawn at random, and differ each time that a text is encoded
            model["dropout"] = None
        unknown = model.get("unk_token")  # models look this one up by its name
        names = {name: lead + mark for name, mark in self._control.items() if name != unknown}
        for one in config["added_tokens"]:
            if one["content"] in names:
                one |= {"content": names[one["content"]], "special": False, "normalized": False, "single_word": False}
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        copy = Tokenizer.from_str(json.dumps(config))
        copy.encode_special_tokens = True  # the name of the unknown token is letters, too
        for name, number in self._numbers.items():
            if copy.token_to_id(names.get(name, name)) != number:
                raise RecipeError(errors.unreadable("the tokenizer", f"it has no id {number} for `{name}`"))
        return copy

"""Grouping levels in addition to prompt and tree: the functions behind ``recipec.spec.grouping``."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from difflib import SequenceMatcher
from itertools import chain
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import credit as errors
from recipec.diagnostics.model import RecipeError


def anchor_state(
    state_R: Sequence[Any], by_prompt_R: Tensor, failed_R: Tensor, *, match: str, threshold: float | None
) -> dict[str, Tensor]:
    """Group the rows of a prompt that saw the same state; see :class:`recipec.spec.grouping.AnchorState`.

    Groups are numbered by their first row.  A failed row is a group of its own, so that it does not change other
    groups.

    Raises:
        RecipeError: RC796 a state that is not JSON data, or not text where states are compared by similarity.

    >>> prompts_R, failed_R = torch.tensor([0, 0, 1, 0]), torch.zeros(4, dtype=torch.bool)
    >>> anchor_state(["hall", "kitchen", "hall", "hall"], prompts_R, failed_R, match="exact", threshold=None)
    {'by_anchor_R': tensor([0, 1, 2, 0])}
    """
    place: Callable[[int, Any], Hashable]
    if match == "similarity":
        assert threshold is not None
        place = _Alike(threshold).place
    else:
        place = _same
    numbers: dict[Hashable, int] = {}
    groups = []
    for row, (state, prompt, failed) in enumerate(zip(state_R, by_prompt_R.tolist(), failed_R.tolist(), strict=True)):
        key: Hashable = ("failed", row) if failed else (prompt, place(prompt, state))
        groups.append(numbers.setdefault(key, len(numbers)))
    return {"by_anchor_R": torch.tensor(groups, dtype=torch.int64)}


def _same(_prompt: int, state: Any) -> Hashable:
    return state_key(state)


def state_key(state: Any, file: str = "", line: int = 0) -> Hashable:
    """Turn JSON data into a key: equal keys are the same state.

    Text and numbers are themselves, so 1, 1.0 and true are one key and "1" another.  A nested list of numbers that is
    rectangular is an array; its shape is not part of its key.

    >>> state_key([[0, 1], [2, 3]]) == state_key([0, 1, 2, 3]), state_key([[0], [1, 2]]) == state_key([0, 1, 2])
    (True, False)
    >>> state_key({"at": "hall", "holds": []}) == state_key({"holds": [], "at": "hall"}), state_key("1") == state_key(1)
    (True, False)

    Raises:
        RecipeError: RC796, it is not JSON data, or nested too deeply; the message names the place if one is given.
    """
    try:
        return _key(state)
    except TypeError as error:
        raise RecipeError(errors.bad_state(type(state).__name__, str(error), file, line)) from None
    except RecursionError:
        raise RecipeError(errors.bad_state(type(state).__name__, "it is nested too deeply", file, line)) from None


def state_text(state: Any, file: str = "", line: int = 0) -> str:
    """Return a state that is text.

    Raises:
        RecipeError: RC796, it is not text; the message names the place if one is given.
    """
    if not isinstance(state, str):
        raise RecipeError(errors.bad_state(type(state).__name__, "similarity is measured on text", file, line))
    return state


def _key(state: Any) -> Hashable:
    if state is None or isinstance(state, str | Number):
        return state
    if hasattr(state, "tolist"):  # an array of numpy or torch
        return _key(state.tolist())
    if isinstance(state, list | tuple):
        flat = _flat(state)
        return tuple(map(_key, state)) if flat is None else flat
    if isinstance(state, dict):
        return ("mapping", frozenset((name, _key(value)) for name, value in state.items()))
    raise TypeError(f"`{type(state).__name__}` is not JSON data")


def _flat(state: Sequence[Any]) -> tuple[Any, ...] | None:
    """Return the numbers of a rectangular nested list in row order; None where it is not one."""
    level: list[Any] = list(state)
    while level and all(isinstance(item, list | tuple) for item in level):
        if len({len(item) for item in level}) > 1:
            return None
        level = list(chain.from_iterable(level))
    return tuple(level) if all(isinstance(item, Number) for item in level) else None


class _Alike:
    """Clusters of similar text, one list per prompt: a text joins the first cluster with a similar first member.

    The ratio is ``SequenceMatcher(None, text, member).ratio()`` in this order, since it is not symmetric.
    Its two quick bounds are never below it, so that most pairs need no alignment and the answers stay the same.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.members: dict[int, list[SequenceMatcher[str]]] = {}
        self.known: dict[tuple[int, str], int] = {}

    def place(self, prompt: int, state: Any) -> int:
        """Return the cluster of a text inside its prompt, a new one where none is like it.

        Raises:
            RecipeError: RC796, the state is not text.
        """
        at = (prompt, state_text(state))
        if at not in self.known:
            self.known[at] = self._find(self.members.setdefault(prompt, []), state)
        return self.known[at]

    def _find(self, members: list[SequenceMatcher[str]], text: str) -> int:
        for number, matcher in enumerate(members):
            matcher.set_seq1(text)
            bounds = (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio)
            if all(bound() >= self.threshold for bound in bounds):
                return number
        members.append(SequenceMatcher(None, "", text))
        return len(members) - 1

"""Stop texts: which rows have just written the token that completes one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_SLACK = 8  # characters: a window may begin inside a character, or lose its first space


class StopStrings:
    """Watches rows for stop texts, decoding only the end of a row and only when its newest token could complete one.

    Texts are compared with what the ids decode to, special tokens included.
    """

    def __init__(self, texts: tuple[str, ...], tokenizer: Any) -> None:
        """Look at the vocabulary once."""
        self.texts = texts
        self.tokenizer = tokenizer
        self.reach = max(map(len, texts)) + _SLACK
        self.able_V = self._able()
        self.ids: list[list[int]] = []
        self.start: list[int] = []

    def watch(self, rows: int) -> None:
        """Start with rows that have written nothing."""
        self.ids = [[] for _ in range(rows)]
        self.start = [0] * rows

    def completed(self, row_R: list[int], token_R: Tensor) -> list[bool]:
        """Take each row's newest token; say which rows it completes a stop text of."""
        tokens = token_R.tolist()
        for row, token in zip(row_R, tokens, strict=True):
            self.ids[row].append(token)
        able = [i for i, token in enumerate(tokens) if token < len(self.able_V) and self.able_V[token]]
        is_completed = [False] * len(tokens)
        texts = self._decode([self.ids[row_R[i]][self.start[row_R[i]] :] for i in able])
        for i, text in zip(able, texts, strict=True):
            is_completed[i] = any(stop in text for stop in self.texts)
            self._shorten(row_R[i], text)
        return is_completed

    def _shorten(self, row: int, text: str) -> None:
        """Move the window on when it holds much more than the longest text."""
        if len(text) <= 4 * self.reach:
            return
        ids, keep = self.ids[row], len(self.ids[row]) - 1
        while keep > self.start[row] and len(self._decode([ids[keep:]])[0]) < self.reach:
            keep -= 1
        self.start[row] = keep

    def _decode(self, ids: list[list[int]]) -> list[str]:
        if not ids:  # the tokenizer would answer with one empty text
            return []
        texts: list[str] = self.tokenizer.batch_decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return texts

    def _able(self) -> list[bool]:
        """Tokens that could complete a text: they hold the last character of one, or a piece of a character."""
        ends = {text[-1] for text in self.texts} | {"\N{REPLACEMENT CHARACTER}"}
        pieces = self._decode([[i] for i in range(len(self.tokenizer))])
        if any(end.isspace() for end in ends):  # a token decoded alone may lose its space
            return [True] * len(pieces)
        return [bool(ends & set(piece)) for piece in pieces]


def stop_table(stop_ids: frozenset[int], vocabulary: int, device: torch.device) -> Tensor:
    """Mark the ids that end a row.

    >>> stop_table(frozenset({2}), 4, torch.device("cpu"))
    tensor([False, False,  True, False])
    """
    ends_V = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    ends_V[[i for i in stop_ids if i < vocabulary]] = True
    return ends_V

"""Rows to compare attentions on: random ones with the proportions of a recipe, or recorded ones.

Random rows have the recipe's proportions of prompt and answer, group size, trees and turns, scaled down to a number of
tokens.  A turn follows the whole history; if the environment shows a window of turns, it follows a prompt of its own,
and all of these begin alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recipec.diagnostics.errors import attention as errors
from recipec.diagnostics.model import RecipeError
from recipec.graph import StageGraph
from recipec.runtime.batch import Batch, pad_rows
from recipec.runtime.data.recorded import read_recorded
from recipec.spec.environment import Environment
from recipec.spec.recipe import PAIRED_KINDS
from recipec.spec.sampler import Sampler

_GROUPS = 2
_STEM = 8
"""A windowed prompt of n tokens begins with n / 8 tokens that are equal in all of them."""
Span = tuple[list[int], bool]
"""Tokens, and whether they are trained."""


def read_rows(path: Path, limit: int, vocabulary: int) -> Batch:
    """Read the first recorded rows (``prompt_ids``, ``ids``, ``trained``) that have at most ``limit`` tokens together.

    Raises:
        RecipeError: RC797, there are no rows; RC836, a row has no tokens, or ids outside the vocabulary.
    """
    rows: list[list[Span]] = []
    count = 0
    for row in read_recorded(path):
        prompt, ids = row.fields.get("prompt_ids"), row.fields.get("ids")
        if not _tokens(prompt, vocabulary) or not _tokens(ids, vocabulary):
            raise RecipeError(
                errors.nothing_to_certify(
                    f"{row.file}:{row.line}: a row needs `prompt_ids` and `ids` below the vocabulary of {vocabulary}"
                )
            )
        assert isinstance(prompt, list)
        assert isinstance(ids, list)
        count += len(prompt) + len(ids)
        if rows and count > limit:
            break
        trained = row.trained or (True,) * len(ids)
        rows.append([(prompt, False), *(([token], on) for token, on in zip(ids, trained, strict=False))])
    return _batch(rows)


def _tokens(ids: Any, vocabulary: int) -> bool:
    return isinstance(ids, list) and all(type(i) is int and 0 <= i < vocabulary for i in ids)


def random_rows(stage: StageGraph, limit: int, vocabulary: int, positions: int) -> Batch:
    """Draw rows with the proportions of a stage: about ``limit`` tokens in all, at most ``positions`` in each."""
    sampler = stage.spec(Sampler)
    answer_length = (None if sampler is None else sampler.longest_turn()) or 256
    prompt_length = int(stage.params("data").get("max_length") or answer_length)
    environment = stage.spec(Environment)
    turns = 1 if environment is None else environment.max_turns
    windowed = environment is not None and environment.window() is not None
    rows: list[list[Span]] = []
    for halvings in range(8):
        scale = 0.5**halvings
        few = max(min(turns, 2), int(turns * scale))
        random = _RandomRows(
            np.random.default_rng(0), vocabulary, max(4, int(prompt_length * scale)), max(3, int(answer_length * scale))
        )
        rows = random.rows(stage.kind, sampler, few, windowed=windowed)
        longest = max(sum(len(part) for part, _ in row) for row in rows)
        if sum(len(part) for row in rows for part, _ in row) <= limit and longest <= positions:
            break
    return _batch([_cut(row, positions) for row in rows])


def _cut(row: list[Span], positions: int) -> list[Span]:
    """Cut a row to the model's number of positions."""
    kept, room = [], positions
    for part, on in row:
        kept.append((part[:room], on))
        room -= len(kept[-1][0])
    return kept


@dataclass(frozen=True, slots=True)
class _RandomRows:
    """Random rows, with prompts of ``prompt`` tokens and turns of up to ``answer`` tokens."""

    draw: np.random.Generator
    vocabulary: int
    prompt: int
    answer: int

    def some(self, count: int) -> list[int]:
        return [int(i) for i in self.draw.integers(0, self.vocabulary, count)]

    def turn(self) -> Span:
        return self.some(int(self.draw.integers(max(1, self.answer // 2), self.answer + 1))), True

    def chain(self, begin: Sequence[Span], more: int) -> list[Span]:
        """Continue an episode by ``more`` turns with an observation each, and a last turn."""
        tokens = list(begin)
        for _ in range(more):
            tokens += [self.turn(), (self.some(self.answer // 2), False)]
        return [*tokens, self.turn()]

    def rows(self, kind: str, sampler: Sampler | None, turns: int, *, windowed: bool = False) -> list[list[Span]]:
        """Draw the rows of a few prompts; with ``windowed``, each turn has a prompt of its own."""
        if kind == "sft":
            begin = self.some(8)
            return [[(begin + self.some(self.prompt), False), self.turn()] for _ in range(4)]
        if kind in PAIRED_KINDS:
            prompts = [(self.some(self.prompt), False) for _ in range(4)]
            return [[prompt, self.turn()] for prompt in prompts for _ in range(2)]
        assert sampler is not None, "an rl stage has one"
        trees, added = sampler.branches()
        leaves = []
        for _ in range(_GROUPS):
            prompt = (self.some(self.prompt), False)
            leaves += [leaf for _ in range(trees) for leaf in self.tree(prompt, added, turns)]
        return self.steps(leaves, windowed=windowed) if sampler.rows == "step" else leaves

    def tree(self, prompt: Span, added: int, turns: int) -> list[list[Span]]:
        """Draw a chain, and others that branch off at one of its turns."""
        trunk = self.chain([prompt], turns - 1)
        grown = [trunk]
        for _ in range(added):
            turn = int(self.draw.integers(0, turns))
            grown.append(self.chain(trunk[: 1 + 2 * turn], turns - 1 - turn))
        return grown

    def steps(self, leaves: Sequence[Sequence[Span]], *, windowed: bool) -> list[list[Span]]:
        """Make a row of each turn after its history or a windowed prompt; equal histories have equal prompts."""
        stem, windows = self.some(max(1, self.prompt // _STEM)), dict[tuple[int, ...], list[int]]()
        rows: list[list[Span]] = []
        for leaf in leaves:
            for place in range(1, len(leaf), 2):
                before = [token for part, _ in leaf[:place] for token in part]
                if windowed and place > 1:
                    key = tuple(before)
                    if key not in windows:
                        windows[key] = stem + self.some(self.prompt - len(stem))
                    before = windows[key]
                rows.append([(before, False), leaf[place]])
        return rows


def _batch(rows: Sequence[Sequence[Span]]) -> Batch:
    """Pad rows to one width."""
    tokens_RT = pad_rows([[token for part, _ in row for token in part] for row in rows], torch.int64)
    trained_RT: Tensor = pad_rows([[float(on) for part, on in row for _ in part] for row in rows], torch.float32).bool()
    lengths_R = torch.tensor([sum(len(part) for part, _ in row) for row in rows])
    attend_RT = torch.arange(tokens_RT.shape[1]) < lengths_R[:, None]
    return Batch(tokens_RT=tokens_RT, attend_RT=attend_RT, trained_RT=trained_RT & attend_RT)

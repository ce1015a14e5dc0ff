"""Rows that share prefixes as in training: groups, trees, multi-turn episodes, preference pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch

from recipec.runtime.batch import Batch, pad_rows


class Row(NamedTuple):
    """Token ids, the number of prompt tokens, and which tokens are trained."""

    ids: list[int]
    prompt: int
    trained: list[bool]


class Text:
    """A source of random tokens."""

    def __init__(self, draw, vocabulary):
        self.draw, self.vocabulary = draw, vocabulary

    def __call__(self, count):
        """Draw the next token ids."""
        return [int(i) for i in self.draw.integers(2, self.vocabulary, count)]


def answered(prompt, answer):
    return Row(prompt + answer, len(prompt), [False] * len(prompt) + [True] * len(answer))


def flat(text, prompt, answers):
    """Make a group: a prompt and several answers."""
    begin = text(prompt)
    return [answered(begin, text(n)) for n in answers]


def tree(text, *, trees, prompt, turn, read, turns):
    """Make trees of three leaves on one prompt, two branching after the first turn; observations get no loss."""

    def turns_of(count):
        parts = [(text(turn), True), (text(read), False)] * count
        return [(text(len(ids)), trained) for ids, trained in parts][: 2 * count - 1]

    rows = []
    begin = text(prompt)
    for _ in range(trees):
        trunk = turns_of(turns)
        for parts in [trunk, *([*trunk[:2], *turns_of(turns - 1)] for _ in range(2))]:
            ids = begin + [i for part, _ in parts for i in part]
            trained = [False] * len(begin) + [own for part, own in parts for _ in part]
            rows.append(Row(ids, len(begin), trained))
    return rows


def episodes(text, *, rollouts, turns, system, read, written):
    """Make one row per turn of each episode, with all earlier turns as the prompt."""
    rows = []
    begin = text(system)
    for _ in range(rollouts):
        history = list(begin)
        for _ in range(turns):
            history = history + text(read)
            rows.append(answered(history, text(written)))
            history = rows[-1].ids
    return rows


def binary(text, *, prompt, depth, node):
    """Make a binary tree below a prompt; each leaf is a row."""
    begin = text(prompt)
    rows = [[]]
    for _ in range(depth):
        rows = [row + text(node) for row in rows for _ in range(2)]
    return [answered(begin, row) for row in rows]


CASES = {
    "GRPO 512/64, G 8": lambda t: flat(t, 512, [64] * 8),
    "GRPO 1024/128, G 8": lambda t: flat(t, 1024, [128] * 8),
    "GRPO 2048/128, G 8": lambda t: flat(t, 2048, [128] * 8),
    "ragged 1024/64..256, G 8": lambda t: flat(t, 1024, [64, 118, 150, 172, 195, 205, 230, 256]),
    "Tree-GRPO: 4 trees of 3, 4 turns": lambda t: tree(t, trees=4, prompt=256, turn=64, read=256, turns=4),
    "steps, append-only: 2 x 6": lambda t: episodes(t, rollouts=2, turns=6, system=200, read=80, written=40),
    "DPO 512/128, 4 pairs": lambda t: [row for _ in range(4) for row in flat(t, 512, [128] * 2)],
    "binary tree, 32 a node": lambda t: binary(t, prompt=256, depth=5, node=32),
    "binary tree, 8 a node": lambda t: binary(t, prompt=256, depth=5, node=8),
}
SMALL = {
    "GRPO 24/6, G 3": lambda t: flat(t, 24, [6] * 3),
    "tree": lambda t: tree(t, trees=2, prompt=9, turn=3, read=4, turns=3),
    "pairs": lambda t: [row for _ in range(2) for row in flat(t, 8, [5, 3])],
}
"""Tiny cases for tests."""


def batch_of(rows):
    """Pad rows to the same width."""
    tokens = pad_rows([row.ids for row in rows], torch.int64)
    attend = torch.arange(tokens.shape[1]) < torch.tensor([len(row.ids) for row in rows])[:, None]
    return Batch(tokens_RT=tokens, attend_RT=attend, trained_RT=pad_rows([row.trained for row in rows], torch.bool))

"""Rewards of the form of a text: tags that occur once, words that repeat; see :mod:`recipec.spec.reward`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recipec.runtime.batch import Task


def tag_count(
    prompt_P: Sequence[Task],  # noqa: ARG001 - every reward of texts takes the same columns
    by_prompt_R: Tensor,  # noqa: ARG001
    text_R: Sequence[str],
    *,
    tags: Sequence[str],
    newlines: bool,
) -> dict[str, Tensor]:
    r"""Count tags that occur exactly once; see :class:`recipec.spec.reward.TagCount`.

    >>> whole, half = "<think>\nA\n</think>\n<answer>\nB\n</answer>", "<think>\nA\n</think>\nB"
    >>> made = tag_count([], torch.tensor([0, 0]), [whole, half], tags=("think", "answer"), newlines=True)
    >>> made["reward_R"].tolist()
    [1.0, 0.5]
    """
    marks = []
    for place, tag in enumerate(tags):
        before = "\n" if newlines and place else ""
        after = "\n" if newlines and place + 1 < len(tags) else ""
        line = "\n" if newlines else ""
        marks += [f"{before}<{tag}>{line}", f"{line}</{tag}>{after}"]
    scores = [sum(text.count(mark) == 1 for mark in marks) / len(marks) for text in text_R]
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def repetition(
    prompt_P: Sequence[Task],  # noqa: ARG001
    by_prompt_R: Tensor,  # noqa: ARG001
    text_R: Sequence[str],
    *,
    ngram: int,
    penalty: float,
) -> dict[str, Tensor]:
    """Penalise the share of n-grams that occurred before; see :class:`recipec.spec.reward.Repetition`.

    >>> repetition([], torch.tensor([0, 0]), ["a b a b", "a b c"], ngram=2, penalty=-3.0)["reward_R"].tolist()
    [-1.0, 0.0]
    """
    scores = []
    for text in text_R:
        words = text.lower().split()
        runs = [tuple(words[i : i + ngram]) for i in range(len(words) - ngram + 1)]
        scores.append(penalty * (1 - len(set(runs)) / len(runs)) if runs else 0.0)
    return {"reward_R": torch.tensor(scores, dtype=torch.float64) + 0.0}  # no -0.0

"""Rewards of answers with one form: an option of a multiple choice, a bounding box; see :mod:`recipec.spec.reward`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.runtime.batch import Task
from recipec.runtime.reward.answers import bad_answer, no_answer_column, tagged

_BOXED = re.compile(r"\\boxed\{\s*(?:\\text\{)?\s*\(?([A-Z])\)?\s*\}")
_LETTER = r"(?i:\s+is)?\s*:?\s*\**\s*\(?([A-Z])\)?(?![A-Za-z'])"
_ANSWER = re.compile(rf"(?<!(?i:wrong) )(?i:answer|(?:correct|right|best) (?:option|choice)){_LETTER}")
_ALONE = re.compile(r"\s*\**(?:(?i:option|choice)\s+)?\(?([A-Z])\)?(?:\.\s|[.:]?\**\s*(?:\n|$))")
_OPTION = re.compile(rf"(?i:option|choice){_LETTER}(?!(?i:\s+is)?\s+(?i:not\b|wrong|false|incorrect))")
_WHOLE = re.compile(r"\s*\**\(?([A-Z])(?:\)|[.:)]\s|[.:)]?\**\s*$)")
_INSIDE = re.compile(r"\(([A-Z])\)")
_NUMBER = r"\s*(-?\d{1,9}(?:\.\d{1,9})?)\s*"
_BOX = re.compile(rf"[\[(]{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}[\])]")


def multiple_choice(
    prompt_P: Sequence[Task],
    by_prompt_R: Tensor,
    text_R: Sequence[str],
    *,
    answer: str,
    tag: str | None,
    correct: float,
    wrong: float,
) -> dict[str, Tensor]:
    r"""Compare options; see :class:`recipec.spec.reward.MultipleChoice`.

    Raises:
        RecipeError: RC741 the task lacks the column, RC742 it holds no option.

    >>> task = Task(0, "Capital of France? (A) Rome (B) Paris", (1,), {"answer": 1})
    >>> made = multiple_choice(
    ...     [task], torch.tensor([0, 0, 0]), ["A city: the answer is (B).", r"\boxed{A}", "B"],
    ...     answer="answer", tag=None, correct=1.0, wrong=0.0,
    ... )
    >>> made["reward_R"].tolist()
    [1.0, 0.0, 1.0]
    """
    right = {p: right_option(prompt_P[p], answer) for p in set(by_prompt_R.tolist())}
    options = [option(tagged(text, tag) or "") for text in text_R]
    scores = [correct if one == right[p] else wrong for p, one in zip(by_prompt_R.tolist(), options, strict=True)]
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def option(text: str) -> str | None:
    r"""Return the letter that a text chooses.

    >>> [option(t) for t in ("B", "(C) Paris", "A dog. The answer is: **D**", r"\boxed{\text{A}}", "A dog barks", "")]
    ['B', 'C', 'D', 'A', None, None]
    """
    for pattern in (_BOXED, _ANSWER):
        if named := pattern.findall(text):
            return str(named[-1])
    if alone := _ALONE.match(text):
        return alone[1]
    if named := _OPTION.findall(text):
        return str(named[-1])
    if whole := _WHOLE.match(text):
        return whole[1]
    inside = _INSIDE.findall(text)
    return str(inside[-1]) if inside else None


def right_option(task: Task, column: str) -> str:
    """Return the letter of the right option.

    Raises:
        RecipeError: RC741 the task lacks the column, RC742 it holds no option.
    """
    value = _given(task, column)
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 26:
        return chr(ord("A") + number)
    letter = re.fullmatch(r"\(?([A-Z])\)?[.:]?", value.strip()) if isinstance(value, str) else None
    if letter is None:
        raise bad_answer(task, column, value, "neither a capital letter nor a number from 0")
    return letter[1]


def iou(
    prompt_P: Sequence[Task],
    by_prompt_R: Tensor,
    text_R: Sequence[str],
    *,
    answer: str,
    tag: str | None,
    threshold: float | None,
) -> dict[str, Tensor]:
    """Measure the overlap of boxes; see :class:`recipec.spec.reward.Iou`.

    Raises:
        RecipeError: RC741 the task lacks the column, RC742 it holds no box.

    >>> task = Task(0, "Where is the cat?", (1,), {"answer": [0, 0, 2, 2]})
    >>> answers = ["at [0, 0, 2, 1]", "[5, 5, 6, 6]", "nowhere"]
    >>> iou([task], torch.tensor([0, 0, 0]), answers, answer="answer", tag=None, threshold=None)["reward_R"].tolist()
    [0.5, 0.0, 0.0]
    """
    right = {p: right_box(prompt_P[p], answer) for p in set(by_prompt_R.tolist())}
    scores = []
    for prompt, text in zip(by_prompt_R.tolist(), text_R, strict=True):
        boxes = _BOX.findall(tagged(text, tag) or "")
        overlap = _overlap(right[prompt], [float(x) for x in boxes[-1]]) if boxes else 0.0
        scores.append(overlap if threshold is None else float(overlap >= threshold))
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return wide * high / (areas - wide * high)


def right_box(task: Task, column: str) -> list[float]:
    """Return the right box.

    Raises:
        RecipeError: RC741 the task lacks the column, RC742 it holds no box.
    """
    value = _given(task, column)
    numbers = isinstance(value, list | tuple) and len(value) == 4
    if numbers and all(isinstance(x, int | float) and math.isfinite(x) for x in value):
        box = [float(x) for x in value]
        if box[0] < box[2] and box[1] < box[3]:
            return box
    raise bad_answer(task, column, value, "not a box [x1, y1, x2, y2] with an area")


def _given(task: Task, column: str) -> Any:
    if column not in task.columns:
        raise no_answer_column(task, column)
    return task.columns[column]

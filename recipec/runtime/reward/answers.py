"""A model's answer and the right ones: what rewards compare."""

from __future__ import annotations

import math
import re
import string
import unicodedata
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task


def tagged(text: str, tag: str | None) -> str | None:
    """Return the text of the last ``<TAG>…</TAG>``, None where there is none; with no ``tag``, the text after thoughts.

    Thoughts end at the last ``</think>``; what a model considers there is not its answer.

    >>> tagged("<answer>1</answer> no: <answer> 2 </answer>", "answer"), tagged("2", "answer")
    (' 2 ', None)
    >>> tagged("2", None), tagged("1 or 2?</think>2", None)
    ('2', '2')
    """
    if tag is None:
        return text.rpartition("</think>")[2]
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, max(end, 0))
    return None if end < 0 or start < 0 else text[start + len(tag) + 2 : end]


def composed(text: str) -> str:
    """Return text with one code for each letter and its accents: the same letters may be written in two ways.

    >>> len(composed("e" + chr(0x301)))
    1
    """
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    r"""Fold case and white space.

    >>> folded("  New\n YORK ")
    'new york'
    """
    return " ".join(composed(text).casefold().split())


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Fold case, punctuation, articles and white space away, in this order, as question answering compares answers.

    References:
        Rajpurkar et al., `SQuAD <https://arxiv.org/abs/1606.05250>`_, 2016.

    >>> normalised(" The U.S.  dollar "), normalised("Côte d'Ivoire")
    ('us dollar', 'côte divoire')
    """
    return " ".join(_ARTICLES.sub(" ", composed(text).lower().translate(_NO_PUNCTUATION)).split())


def bad_answer(task: Task, column: str, value: Any, problem: str = "", labels: Iterable[str] = ()) -> RecipeError:
    """Return RC742 for the right answer of a task, with the place of its row."""
    return RecipeError(errors.bad_answer(task.id, task.place, column, value, problem, labels))


def no_answer_column(task: Task, column: str, param: str = "answer") -> RecipeError:
    """Return RC741 for a task without a column, with the place of its row."""
    return RecipeError(errors.no_answer_column(task.id, task.place, column, task.columns, param))


def right_answers(task: Task, column: str) -> list[str]:
    """Return the right answers of a task: text or a number, or a list of them.

    Raises:
        RecipeError: RC741 or RC742.
    """
    if column not in task.columns:
        raise no_answer_column(task, column)
    value = task.columns[column]
    values = value if isinstance(value, list | tuple) else [value]
    known = [v for v in values if isinstance(v, str | int | float | Decimal) and not isinstance(v, bool)]
    good = [text for text in map(_written, known) if text.strip()]
    if (
        not good
        or len(good) < len(values)
        or any(isinstance(v, float | Decimal) and not math.isfinite(v) for v in values)
    ):
        raise bad_answer(task, column, value)
    return good


def _written(value: str | float | Decimal) -> str:
    """Return an answer as a person writes it: parquet files may have 72 as 72.0, and 0.00001 as 1e-05."""
    if not isinstance(value, float | Decimal) or not math.isfinite(value):
        return str(value)
    text = format(Decimal(str(value)), "f")
    return text.rstrip("0").removesuffix(".") if "." in text else text

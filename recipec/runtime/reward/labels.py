"""Answers as labels: the label that a text names, majority votes, and macro F1."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Sequence

from recipec.runtime.batch import Task
from recipec.runtime.reward.answers import bad_answer, folded, right_answers, tagged

_SPACES = str.maketrans(dict.fromkeys(string.punctuation, " "))


def _words(text: str) -> str:
    """Fold case and white space, with a space for each punctuation mark."""
    return folded(text.translate(_SPACES))


def label_of(text: str, tag: str | None, labels: Sequence[str] = ()) -> str | None:
    """Return the answer of a text, folded: the content of the last ``<TAG>…</TAG>``; None without one.

    Among ``labels`` it is the one that the content equals, or else the only one that it names, whole words with case
    and punctuation folded away; a label inside a longer one that is named does not count.
    Content that names no label, or several, is not an answer.

    >>> label_of("<answer> Melanoma. </answer>", "answer", ("melanoma", "rosacea"))
    'melanoma'
    >>> label_of("melanoma or rosacea", None, ("melanoma", "rosacea")), label_of("none", None), label_of("x", "answer")
    (None, 'none', None)
    """
    content = tagged(text, tag)
    if content is None or not content.strip():
        return None
    if not labels:
        return folded(content)
    words = f" {_words(content)} "
    known = {_words(label): folded(label) for label in labels}
    named = [label for label in known if f" {label} " in words]
    if words.strip() in known:
        return known[words.strip()]
    # what is left once the longer names are out may still name a shorter one
    for label in sorted(named, key=len, reverse=True):
        if f" {label} " in words:
            words = words.replace(f" {label} ", " | ")
        else:
            named.remove(label)
    return known[named[0]] if len(named) == 1 else None


def right_labels(task: Task, column: str, labels: Sequence[str] = ()) -> list[str]:
    """Return the right answers of a task, folded, as :func:`label_of` gives them.

    Raises:
        RecipeError: RC741 the task lacks the column, RC742 it holds no text or none of the labels.
    """
    right = []
    for answer in right_answers(task, column):
        label = label_of(answer, None, labels)
        if label is None:
            raise bad_answer(task, column, answer, "which is not one of the labels", labels)
        right.append(label)
    return right


def vote(answers: Iterable[str | None]) -> str | None:
    """Return the most frequent answer, of equals the first given; None, which has no vote, only where all are.

    >>> vote(["b", None, None, "a", "a", "b"]), vote([None])
    ('b', None)
    """
    counted = Counter(answer for answer in answers if answer is not None)
    return max(counted, key=counted.__getitem__) if counted else None


def macro_f1(right: Sequence[Sequence[str]], answers: Sequence[str | None], labels: Sequence[str] = ()) -> float:
    r"""Average the F1 of every class: :math:`F_1 = 2 t / (2 t + f_{+} + f_{-})`.

    Classes are ``labels``, or else the right answers that occur; each row's class is the first of its right answers.
    One of its others counts as that one. An answer outside the classes lowers the recall of the row's class only.
    A class that neither occurs nor is answered has no F1 and is left out.

    >>> macro_f1([["a"], ["a"], ["b"]], ["a", "b", None])
    0.3333333333333333
    >>> macro_f1([], [], ("a",))
    0.0

    References:
        Opitz & Burst, `Macro F1 and Macro F1 <https://arxiv.org/abs/1911.03347>`_, 2019: the mean of F1 scores.
    """
    truth = [row[0] for row in right]
    predicted = [row[0] if answer in row else answer for row, answer in zip(right, answers, strict=True)]
    scores = []
    for label in dict.fromkeys(map(folded, labels)) if labels else sorted(set(truth)):
        hits = sum(t == g == label for t, g in zip(truth, predicted, strict=True))
        wrong = sum((t == label) != (g == label) for t, g in zip(truth, predicted, strict=True))
        if hits + wrong:
            scores.append(2 * hits / (2 * hits + wrong))
    return sum(scores) / max(1, len(scores))

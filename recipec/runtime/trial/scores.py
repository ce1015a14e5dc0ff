"""What the scores of the user's own reward functions show on answers that no model wrote."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from recipec.diagnostics.errors import trial as errors
from recipec.diagnostics.model import Diagnostic
from recipec.runtime.batch import Task
from recipec.runtime.reward.function import Function

Rows = Mapping[str, Any]
ANSWERS = ("", "I do not know.", "1")
"""Answers of a trial, after the right one where the data has it."""
FORMS = (
    "<think>A trial.</think>\n<answer>{}</answer>",
    "<reasoning>\nA trial.\n</reasoning>\n<answer>\n{}\n</answer>\n",
    "\\boxed{{{}}}",
    "A trial. #### {}",
    "The answer is {}.",
    "```python\n{}\n```",
    '{{"answer": "{}"}}',
    "A trial. " * 20 + "{}",
)
"""Ways to write an answer that a reward may ask for."""
RIGHT = ("answer", "ground_truth", "solution", "completion", "label", "target", "reference")
"""Columns that may hold the right answer."""
PATIENCE = 60.0
"""Seconds of a step in a reward function above which it is called slow."""
_CHAT = 'with chat prompts a completion is a list of messages, and its text is `completion[0]["content"]`; '
NOTICED = 0.5
"""Seconds of a first call, which may import or load something, after which another one is timed."""


def right_answer(task: Task, required: Sequence[str] = ()) -> str | None:
    """Return the right answer of a task as text, from a column of a known name or one that a function requires.

    >>> right_answer(Task(0, "2+2=", (1,), {"answer": 4})), right_answer(Task(0, "2+2=", (1,), {"gold": "4"}), ["gold"])
    ('4', '4')
    """
    columns = dict(task.columns)
    model = columns.get("reward_model")
    if isinstance(model, Mapping):
        columns.setdefault("ground_truth", model.get("ground_truth"))
    of_function = [name for name in required if name in RIGHT or isinstance(columns.get(name), str)]
    names = (*sorted(of_function, key=lambda name: name not in RIGHT), *RIGHT)
    value = next((columns[name] for name in names if columns.get(name) not in (None, "")), None)
    if value is None or isinstance(value, str):
        return value and value.strip()
    return json.dumps(value, ensure_ascii=False, default=str)


def written(task: Task, required: Sequence[str]) -> list[str]:
    """Return the right answer of a task, or some text, in all ``FORMS``."""
    right = right_answer(task, required)
    return [form.format("1" if right is None else right) for form in FORMS]


def cause(function: Function, tasks: Sequence[Task]) -> str:
    """Say what in the columns that a function gets differs from the text of an answer, or return an empty text."""
    for name in function.signature.columns():
        values = [task.columns.get(name) for task in tasks]
        if values and all(isinstance(value, int | float) for value in values):
            return f"column `{name}` holds numbers, and a completion is text: compare it with `str({name})`; "
        if values and all(isinstance(value, list) for value in values):
            return f"column `{name}` holds lists, and a completion is text: compare with `in`; "
        if any(isinstance(value, str) and value != value.strip() for value in values):
            return f"column `{name}` has spaces or line breaks around its values: remove them by `.strip()`; "
    if "prompts" in {*function.signature.required, *function.signature.optional}:
        return "a completion is what follows the prompt, and does not begin with it; "
    return ""


def doubts(
    function: Function,
    scores: Sequence[float | None],
    more: Callable[[], Sequence[float | None]],
    tasks: Sequence[Task],
) -> Iterator[Diagnostic]:
    """Yield RC928 for a reward that is the same for all answers, RC929 for one that returns None for all.

    ``scores`` are those of the last call; ``more`` scores further answers, which is called only where these are equal.
    """
    right = all(right_answer(task, function.signature.columns()) is not None for task in tasks)
    if len(set(scores)) > 1:
        return
    every = [*scores, *more()]
    if len(set(every)) > 1:
        return
    if every[0] is None:
        yield errors.no_score(function.spec.name, len(every), function.span())
    else:
        why = _CHAT if function.chat else cause(function, tasks)
        yield errors.same_score(function.spec.name, every[0], len(every), function.span(), why, right=right)


def drift(
    function: Function, scores: Sequence[float | None], call: Callable[[], Sequence[float | None]], texts: Sequence[str]
) -> Iterator[Diagnostic]:
    """Yield RC753 where a second call gives an answer another score."""
    for first, second, text in zip(scores, call(), texts, strict=True):
        if first != second:
            yield errors.scores_differ(function.spec.name, first, second, text[:40], function.span())
            return


def slowness(
    function: Function, call: Callable[[], Any], took: float, rows: int, per_step: int
) -> Iterator[Diagnostic]:
    """Yield RC940 for a function of which the calls would take longer than ``PATIENCE`` in each step.

    ``took`` are the seconds of the first call, for ``rows`` answers; it is called again where that was long.
    """
    if took <= NOTICED or not rows:
        return
    if took < PATIENCE:
        begun = time.monotonic()
        call()
        took = min(took, time.monotonic() - begun)
    expected = took / rows * per_step
    if expected > PATIENCE:
        late = function.signature.form == "trl" and expected > function.spec.timeout
        limit = function.spec.timeout if late else None
        yield errors.slow_reward(function.spec.name, took, rows, per_step, expected, limit, function.span())

"""What the right answers of a data file show: some do not fit into a completion, or are in their prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import torch

from recipec.component import Component
from recipec.diagnostics.errors import reward as errors_of_rewards, trial as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.runtime.batch import Example, Task, question
from recipec.runtime.context import StageContext
from recipec.runtime.data.files import Row
from recipec.runtime.graph_runner import bind
from recipec.runtime.protocols import Part, Policy
from recipec.runtime.reward.answers import folded, right_answers
from recipec.spec.reward import AnswerMatch, ExactMatch, MathVerify, MultipleChoice, Reward

MOST = 2000
"""Rows that are looked at."""
FEWEST = 8
"""Rows from which on prompts are compared with answers."""
CONTEXT = 400
"""Characters of a prompt from which on it is taken to hold a text in which the answer is to be found."""
_OWN, _OTHER = 0.9, 0.3
"""Share of the prompts that hold their own answer at least, and that of another row at most."""
_FINAL = re.compile(r"####|\\boxed\{")
"""What marks the answer within a solution."""
_TAG = "answer"
"""The tag that prompts usually ask for."""
OF_FUNCTIONS = ("answer", "ground_truth", "label", "target")
"""Columns that hold a right answer and nothing else, where a function of the user's asks for them."""


class Read(NamedTuple):
    """How a reward reads the right answers: its level, the column, and the tag around an answer of the policy."""

    level: str
    column: str
    tag: str | None
    reads_all: bool = False
    """Whether the reward compares the whole completion, and could read a tag."""
    whole: bool = False
    """Whether the reward compares the text of the column as it is."""


def columns_read(rewards: Mapping[str, Component], wanted: Sequence[str]) -> Iterator[Read]:
    """Yield how rewards read right answers; ``wanted`` are the columns that functions of the user's require."""
    for level, spec in rewards.items():
        column = spec.answer_column() if isinstance(spec, Reward) else None
        if column is not None and isinstance(spec, Reward) and not spec.reader:
            answer = spec.answer_in()
            reads_all, whole = answer is not None and answer.tag is None, isinstance(spec, ExactMatch | AnswerMatch)
            yield Read(level, column, answer.tag if answer else None, reads_all, whole)
    yield from (Read("", column, None) for column in wanted if column in OF_FUNCTIONS)


def about_answers(
    policy: Policy, rows: Sequence[Row], tasks: Sequence[Task | None], read: Sequence[Read], limit: int | None
) -> Iterator[Diagnostic]:
    """Yield RC946 for answers of more than ``limit`` tokens and RC947 for prompts that show theirs, once each."""
    pairs = [(row, task) for row, task in zip(rows, tasks, strict=True) if task is not None][:MOST]
    reported: set[str] = set()
    for one in read:
        known = [(row, task, right_answers(task, one.column)) for row, task in pairs if _has(task, one.column)]
        worked = [*_worked(known, one)]  # too long as they are, but that is not the mistake
        problems = worked or [*_too_long(policy, known, one, limit), *_shown(known, one), *_tagged(known, one)]
        for problem in problems:
            if problem.code not in reported:
                reported.add(problem.code)
                yield problem


def read_mathematics(spec: Component, context: StageContext, tasks: Sequence[Task]) -> None:
    """Let `math_verify` read right answers from all parts of a file, which takes too long for every row.

    Raises:
        RecipeError: RC741, RC742, one of them is not mathematics.
    """
    if isinstance(spec, MathVerify) and tasks:
        function = bind(spec, context, {})
        assert isinstance(function, Part)
        with closing(function):
            function(prompt_P=tasks, by_prompt_R=torch.arange(len(tasks)), text_R=[""] * len(tasks))


def options_from_one(
    rows: Sequence[Row], tasks: Sequence[Task | None], rewards: Mapping[str, Component]
) -> Iterator[Diagnostic]:
    """Yield RC955 where all right options of a multiple choice are numbers and none is 0."""
    for level, spec in rewards.items():
        if not isinstance(spec, MultipleChoice):
            continue
        given = [(row, task.columns.get(spec.answer)) for row, task in zip(rows, tasks, strict=True) if task][:MOST]
        numbers = [
            int(str(value)) for _, value in given if not isinstance(value, bool) and str(value).strip().isdecimal()
        ]
        if len(numbers) == len(given) >= FEWEST and min(numbers) > 0:
            first = given[0][0]
            yield errors_of_rewards.options_from_one(
                first.file, first.number, spec.answer, max(numbers), len(given), level
            )


def no_room(longest: int, limit: int | None, policy: Policy, key: str) -> Iterator[Diagnostic]:
    """Yield RC759 where the longest prompt leaves less than a whole completion."""
    if limit is not None and longest + limit > policy.max_positions:
        problem = errors.little_room(longest, limit, policy.max_positions)
        yield replace(problem, path=f"{key}.{problem.path}")


def same_ids(tasks: Sequence[Task], policy: Policy, key: str) -> Iterator[Diagnostic]:
    """Yield RC949 where prompts that differ have the same tokens: a chat template that leaves the messages out."""
    ids = {task.prompt_ids for task in tasks}
    if len(ids) == 1 and any(ids) and len({str(task.prompt) for task in tasks}) > 1:
        problem = errors.equal_prompts(len(tasks), policy.decode(ids.pop())[:60])
        yield replace(problem, path=f"{key}.policy.chat_template")


def unknown_text(
    encoded: Sequence[tuple[Task, *tuple[Example, ...]]], place: Callable[[Task], tuple[str, int]], policy: Policy
) -> Iterator[Diagnostic]:
    """Yield RC925 for the first row with characters that the tokenizer replaces by its token for unknown text."""
    unknown = policy.tokenizer.unk_token_id
    for task, *examples in encoded:
        ids = [i for example in examples for i in example.ids] or task.prompt_ids
        if unknown is not None and unknown in ids:
            yield errors.unknown_tokens(
                *place(task), next((c for c in question(task) if unknown in policy.encode(c)), "")
            )
            return


def _has(task: Task, column: str) -> bool:
    try:
        return bool(right_answers(task, column))
    except RecipeError:  # RC741 and RC742 tell of it
        return False


Known = Sequence[tuple[Row, Task, list[str]]]


def _too_long(policy: Policy, known: Known, read: Read, limit: int | None) -> Iterator[Diagnostic]:
    if limit is None:
        return
    too_long = []
    for row, _, answers in known:
        texts = [f"<{read.tag}>{answer}</{read.tag}>" if read.tag else answer for answer in answers]
        if all(len(text.encode()) > limit for text in texts):  # a token has a byte at least
            length = min(len(policy.encode(text)) for text in texts)
            too_long += [(length, row)] if length > limit else []
    if too_long:
        longest = max(length for length, _ in too_long)
        first = too_long[0][1]
        yield errors.answer_over_length(
            first.file, first.number, read.column, len(too_long), len(known), longest, limit
        )


def _tagged(known: Known, read: Read) -> Iterator[Diagnostic]:
    """Yield RC754 where most prompts ask for a tag that a reward does not read."""
    asking = [task for _, task, _ in known if f"</{_TAG}>" in str(task.prompt)]
    if read.reads_all and len(asking) > len(known) / 2:
        yield errors.tag_unread(read.level, _TAG)


def _worked(known: Known, read: Read) -> Iterator[Diagnostic]:
    """Yield RC757 where most right answers are solutions that end in the answer, and are compared whole."""
    marked = [(row, mark[0]) for row, _, several in known if (mark := _FINAL.search(several[0]))]
    if read.whole and len(marked) > len(known) / 2:
        row, shown = marked[0]
        yield errors.worked_answers(row.file, row.number, read.column, shown, len(marked), len(known), read.level)


def _shown(known: Known, read: Read) -> Iterator[Diagnostic]:
    if len(known) < FEWEST:
        return
    prompts = [folded(question(task)) for _, task, _ in known]
    answers = [[folded(answer) for answer in several] for _, _, several in known]
    own = [_stands(several, prompt) for several, prompt in zip(answers, prompts, strict=True)]
    other = [_stands(several, prompt) for several, prompt in zip(answers, (*prompts[1:], prompts[0]), strict=True)]
    if sum(own) >= _OWN * len(own) and sum(other) <= _OTHER * len(own):
        first = known[own.index(True)][0]
        yield errors.answer_in_prompt(first.file, first.number, read.column, sum(own), len(own))


def _stands(answers: Sequence[str], prompt: str) -> bool:
    """Whether a short prompt contains one of some answers, as whole words.

    >>> _stands(["5"], "2+3=5"), _stands(["5"], "12+45=")
    (True, False)
    """
    return len(prompt) < CONTEXT and any(
        re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", prompt) is not None for answer in answers
    )

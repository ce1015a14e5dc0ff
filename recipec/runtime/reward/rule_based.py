"""What a row is worth; see :mod:`recipec.spec.reward`.  NaN says that a row could not be scored."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task
from recipec.runtime.reward.answers import tagged
from recipec.runtime.reward.labels import label_of, right_labels

Rewards = dict[str, Tensor]


def verifier(prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str], *, tag: str | None) -> Rewards:
    """Ask the task's own verifier; a missing tag is scored as an empty answer.

    Raises:
        RecipeError: RC740, a task has none.
    """
    scores = []
    for prompt, text in zip(by_prompt_R.tolist(), text_R, strict=True):
        task = prompt_P[prompt]
        if task.score is None:
            raise RecipeError(errors.no_verifier(task.id))
        scores.append(task.score((tagged(text, tag) or "").strip()))
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def exact_match(
    prompt_P: Sequence[Task],
    by_prompt_R: Tensor,
    text_R: Sequence[str],
    *,
    answer: str,
    tag: str | None,
    labels: Sequence[str],
    correct: float,
    wrong: float,
) -> Rewards:
    """Compare the answer with a column of the task, after folding case and space.

    Raises:
        RecipeError: RC741 the task lacks the column, RC742 it holds no text or none of the labels.

    >>> task = Task(0, "1+1=", (1,), {"answer": "2"})
    >>> parameters = {"answer": "answer", "tag": None, "labels": (), "correct": 1.0, "wrong": -1.0}
    >>> exact_match([task], torch.tensor([0, 0]), [" 2", "3"], **parameters)
    {'reward_R': tensor([ 1., -1.], dtype=torch.float64)}
    """
    right = {p: right_labels(prompt_P[p], answer, labels) for p in set(by_prompt_R.tolist())}
    scores = []
    for prompt, text in zip(by_prompt_R.tolist(), text_R, strict=True):
        label = label_of(text, tag, labels)
        scores.append(correct if label is not None and label in right[prompt] else wrong)
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def environment(env_reward_R: Tensor) -> Rewards:
    """Take the environment's own reward; :func:`.compiler_ops.episode_returns` makes scores and returns of it.

    >>> environment(torch.tensor([0.0, 10.0]))
    {'reward_R': tensor([ 0., 10.], dtype=torch.float64)}
    """
    return {"reward_R": env_reward_R.double()}


def length(trained_RT: Tensor, *, max_length: int, soft: int) -> Rewards:
    """Penalise completions that come near the limit.

    >>> mask = torch.ones(3, 6, dtype=torch.bool).tril(2)
    >>> length(mask, max_length=4, soft=2)
    {'reward_R': tensor([-0.5000, -1.0000, -1.0000], dtype=torch.float64)}
    """
    count_R = trained_RT.sum(1).to(torch.float64)
    slope_R = (max_length - soft - count_R) / max(soft, 1)
    reward_R = torch.where(count_R <= max_length - soft, 0.0, slope_R)
    return {"reward_R": torch.where(count_R > max_length, -1.0, reward_R)}


def kl_penalty(trained_RT: Tensor, old_logprob_RT: Tensor, ref_logprob_RT: Tensor, *, beta: float, kl: str) -> Rewards:
    r"""Charge a row for its distance from the reference: :math:`-\beta \sum_t k`, over the tokens it wrote.

    >>> mask, old, ref = torch.tensor([[True, True]]), torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -2.0]])
    >>> kl_penalty(mask, old, ref, beta=0.1, kl="k1")
    {'reward_R': tensor([-0.0500], dtype=torch.float64)}
    """
    ratio_RT = (old_logprob_RT.to(torch.float64) - ref_logprob_RT.to(torch.float64)).masked_fill(~trained_RT, 0.0)
    found_RT = {
        "k1": lambda: ratio_RT,
        "k2": lambda: ratio_RT.square() / 2,
        "k3": lambda: torch.expm1(-ratio_RT) + ratio_RT,
        "abs": ratio_RT.abs,
    }[kl]()
    return {"reward_R": -beta * found_RT.sum(1)}


# A match that takes longer says nothing about the text: its row has failed, as a hanging verifier's has.
MATCH_SECONDS = 1.0


def regex_format(
    prompt_P: Sequence[Task],  # noqa: ARG001 - a reward of text has these columns
    by_prompt_R: Tensor,  # noqa: ARG001
    text_R: Sequence[str],
    *,
    pattern: str,
    match: float,
    mismatch: float,
) -> Rewards:
    r"""Reward a completion that matches from start to end; NaN where a match took longer than a second.

    Raises:
        RecipeError: RC743, the pattern is not valid.

    >>> task = Task(0, "", (1,))
    >>> regex_format([task], torch.tensor([0, 0]), ["<a>\n</a>", "b"], pattern="<a>.*</a>", match=1.0, mismatch=0.0)
    {'reward_R': tensor([1., 0.], dtype=torch.float64)}
    """
    import regex  # noqa: PLC0415 - it can stop a match that runs away, `re` cannot

    try:
        re.compile(pattern, re.DOTALL)
        compiled = regex.compile(pattern, regex.DOTALL | regex.VERSION0)
    except (re.error, regex.error, OverflowError, RecursionError) as error:
        raise RecipeError(errors.bad_pattern(pattern, str(error))) from None
    scores = []
    for text in text_R:
        try:
            scores.append(match if compiled.fullmatch(text, timeout=MATCH_SECONDS) else mismatch)
        except TimeoutError:
            scores.append(math.nan)
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}

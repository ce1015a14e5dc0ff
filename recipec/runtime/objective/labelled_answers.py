"""What the compiler puts before the loss `kto`: rows of labelled answers and the baseline of their log-ratios."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recipec.diagnostics.errors import objective as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Example
from recipec.runtime.objective.compiler_ops import Columns, collate_completions


def collate_labelled(completion_P: Sequence[Example]) -> Columns:
    """Make two rows of each labelled answer: row 2i is the answer, row 2i + 1 the next one's after the same prompt.

    An answer alone has no second row: there is no other one to put after its prompt.

    Raises:
        RecipeError: RC891, an example has no label.

    >>> one = Example(0, (1, 5), (False, True), label=True)
    >>> two = Example(1, (2, 6, 7), (False, True, True), label=False)
    >>> made = collate_labelled([one, two])
    >>> made["tokens_RT"].tolist(), made["mismatched_R"].tolist(), made["desirable_R"].tolist()
    ([[1, 5, 0], [1, 6, 7], [2, 6, 7], [2, 5, 0]], [False, True, False, True], [True, True, False, False])
    """
    for example in completion_P:
        if example.label is None:
            raise RecipeError(errors.no_label(example.prompt_id + 1))
    shifted = [*completion_P[1:], *completion_P[:1]]
    pairs = ((one, _after(one, other)) for one, other in zip(completion_P, shifted, strict=True))
    rows = list(completion_P) if len(completion_P) == 1 else [row for pair in pairs for row in pair]
    place_R = torch.arange(len(rows))
    return {
        **collate_completions(rows),
        "by_pair_R": place_R // 2,
        "mismatched_R": place_R % 2 == 1,
        "desirable_R": torch.tensor([bool(row.label) for row in rows], dtype=torch.bool),
    }


def _after(example: Example, other: Example) -> Example:
    """Return the prompt of an example with the answer of another one."""
    start, begin = example.trained.index(True), other.trained.index(True)
    ids = (*example.ids[:start], *other.ids[begin:])
    return replace(example, ids=ids, trained=(*example.trained[:start], *other.trained[begin:]))


def mismatch_baseline(
    old_logprob_RT: Tensor, ref_logprob_RT: Tensor, trained_RT: Tensor, mismatched_R: Tensor
) -> Columns:
    """Estimate the KL to the reference from mismatched answers: the mean of their log-ratios, 0 if negative or none.

    >>> old_RT, zero_RT = torch.tensor([[-9.0], [-1.0], [-9.0], [-2.0]]), torch.full((4, 1), -3.0)
    >>> mismatch_baseline(old_RT, zero_RT, zero_RT < 0, torch.tensor([False, True, False, True]))["baseline_R"]
    tensor([1.5000, 1.5000, 1.5000, 1.5000])
    """
    log_ratio_R = torch.where(trained_RT, old_logprob_RT - ref_logprob_RT, 0.0).sum(-1)[mismatched_R]
    mean = log_ratio_R.mean().clamp(min=0) if len(log_ratio_R) else log_ratio_R.sum()
    return {"baseline_R": mean.float().expand(len(mismatched_R)).clone()}


def weigh_labelled(mismatched_R: Tensor) -> Columns:
    """Give each labelled answer its share of the minibatch; mismatched rows have none.

    >>> weigh_labelled(torch.tensor([False, True, False, True]))
    {'weight_R': tensor([0.5000, 0.0000, 0.5000, 0.0000])}
    """
    answers_R = ~mismatched_R
    return {"weight_R": answers_R / answers_R.sum().clamp(min=1).float()}

"""Numbers over the answers of an evaluation: what its `metrics` are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from recipec.runtime.reward.labels import macro_f1, vote


@dataclass(frozen=True, slots=True)
class Scored:
    """The answers of an evaluation, task by task and answer by answer.

    Example: ``Scored(rewards=[[1.0, 0.0]], answers=[["nevus", None]], right=[["nevus"]])``.
    """

    rewards: Sequence[Sequence[float]]
    """Score of each episode; NaN where it could not be scored."""
    answers: Sequence[Sequence[str | None]]
    """Answer of each episode: the label, the content of the tag, or the whole text; None without an answer."""
    right: Sequence[Sequence[str]] = ()
    """Right answers of each task, where a reward names their column."""
    labels: Sequence[str] = ()
    """What may be answered, where a reward lists it."""
    levels: Mapping[str, float] = field(default_factory=dict)
    """Mean of each reward level over the answers it could score, before its weight."""
    consistency: float = math.nan
    """Mean of the levels `kg_consistency`."""


def summary(metrics: Sequence[str], scored: Scored, correct_at: float) -> dict[str, float]:
    """Average metrics over tasks; an answer that could not be scored counts as wrong.

    >>> found = Scored([[1.0, 0.0], [0.0, 0.0]], [["a", "b"], ["c", "c"]], [["a"], ["c"]])
    >>> summary(("accuracy", "pass@2", "majority", "macro_f1"), found, 1.0)
    {'accuracy': 0.25, 'pass@2': 0.5, 'majority': 1.0, 'macro_f1': 0.8333333333333333}
    """
    right = [[score >= correct_at for score in group] for group in scored.rewards]
    return {metric: _one(metric, scored, right) for metric in metrics}


def _one(metric: str, scored: Scored, right: Sequence[Sequence[bool]]) -> float:
    name, _, count = metric.partition("@")
    if name.startswith("reward."):
        return scored.levels[name.removeprefix("reward.")]
    formulas: dict[str, Callable[[], float]] = {
        "accuracy": lambda: mean(mean(group) for group in right),
        "avg": lambda: mean(mean(group[: int(count)]) for group in right),
        "pass": lambda: mean(pass_at(len(group), sum(group), int(count)) for group in right),
        "majority": lambda: mean(_majority(scored, right)),
        "macro_f1": lambda: _macro_f1(scored, voted=False),
        "majority_macro_f1": lambda: _macro_f1(scored, voted=True),
        "reward": lambda: mean(score for group in scored.rewards for score in group if not math.isnan(score)),
        "consistency": lambda: scored.consistency,
    }
    return formulas[name]()


def _majority(scored: Scored, right: Sequence[Sequence[bool]]) -> Iterable[float]:
    """Whether the answer most given to each task is right: by its column, or else by its first episode's reward."""
    for task, answers in enumerate(scored.answers):
        chosen = vote(answers)
        if chosen is None:
            yield 0.0
        elif scored.right:
            yield float(chosen in scored.right[task])
        else:
            yield float(right[task][list(answers).index(chosen)])


def _macro_f1(scored: Scored, *, voted: bool) -> float:
    rows = [
        (scored.right[task], answer)
        for task, answers in enumerate(scored.answers)
        for answer in ([vote(answers)] if voted else answers)
    ]
    return macro_f1([truth for truth, _ in rows], [answer for _, answer in rows], scored.labels)


def pass_at(samples: int, right: int, k: int) -> float:
    """Unbiased probability that one of ``k`` answers is right.

    Chen et al., `Evaluating Large Language Models Trained on Code <https://arxiv.org/abs/2107.03374>`_, 2021, eq. 1.

    >>> pass_at(4, 1, 2)
    0.5
    """
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def mean(values: Iterable[float]) -> float:
    """Average; 0 of nothing.

    >>> mean([1.0, 0.0]), mean([])
    (0.5, 0.0)
    """
    numbers = list(values)
    return sum(numbers) / max(1, len(numbers))

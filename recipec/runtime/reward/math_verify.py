"""Answers compared as mathematics, in processes that are killed when they hang."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.host.worker_pool import WorkerFailure
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Part
from recipec.runtime.reward.answers import bad_answer, right_answers, tagged
from recipec.runtime.reward.workers import ScoringWorkers
from recipec.spec import reward as specs


class MathVerify(Part):
    """Compare mathematical answers for equality; see :class:`recipec.spec.reward.MathVerify`.

    What a model wrote is read and evaluated in child processes only.
    An answer that hangs or kills its child gets NaN; one that cannot be read as mathematics is wrong.
    """

    def __init__(self, spec: specs.MathVerify, context: StageContext) -> None:  # noqa: ARG002 - every class takes both
        self.spec = spec
        self._workers = ScoringWorkers("math_verify", "math-verify", "recipec.runtime.reward.worker_main:mathematics")

    def __call__(self, prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str]) -> dict[str, Tensor]:
        """Score a batch.

        Raises:
            RecipeError: RC741, RC742 the right answer cannot be read; RC744 more than one in a hundred failed.
        """
        prompts, text_R = by_prompt_R.tolist(), [tagged(text, None) or "" for text in text_R]
        right = {p: right_answers(prompt_P[p], self.spec.answer) for p in set(prompts)}
        pairs = dict.fromkeys((a, t) for p, t in zip(prompts, text_R, strict=True) for a in right[p])
        answers = dict(zip(pairs, self._workers.ask([list(p) for p in pairs], self.spec.timeout), strict=True))
        scores = [
            self._score(prompt_P[p], [answers[a, t] for a in right[p]]) for p, t in zip(prompts, text_R, strict=True)
        ]
        if self.spec.weight:  # with weight 0 it takes no part, and cannot bias the update
            self._workers.tally.add(len(scores), [t for t, s in zip(text_R, scores, strict=True) if math.isnan(s)])
        return {"reward_R": torch.tensor(scores, dtype=torch.float64)}

    def _score(self, task: Task, answers: list[Any]) -> float:
        if any(answer is True for answer in answers):
            return self.spec.correct
        if any(isinstance(answer, WorkerFailure) for answer in answers):
            return math.nan
        if all(answer is None for answer in answers):
            value = task.columns[self.spec.answer]
            raise bad_answer(task, self.spec.answer, value, "which is not mathematics in full")
        return self.spec.wrong

    def close(self) -> None:
        """End the child processes."""
        self._workers.close()

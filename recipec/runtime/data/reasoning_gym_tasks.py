"""Tasks that the reasoning-gym package generates and judges, in a process that is killed when it hangs."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from recipec.diagnostics.errors import data as errors, reward as reward_errors
from recipec.diagnostics.model import RecipeError
from recipec.host.worker_pool import HandlerError, WorkerFailure, WorkerPool
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.data.files import Row
from recipec.runtime.data.sources import Encoded, Source
from recipec.runtime.protocols import Environment, Policy
from recipec.spec import data as specs

START_SECONDS = 600.0
SCORE_SECONDS = 30.0
_FEW = 10_000
_MADE: dict[str, Sequence[Mapping[str, Any]]] = {}
"""Columns of few tasks by what they were made of: `check`, stages and evaluations read the same, and it takes longer to
start a process than to make them."""


class ReasoningGym(Source):
    """Procedural tasks; see :class:`recipec.spec.data.ReasoningGym`.

    Tasks are generated and answers are scored in a process that is killed when it hangs:
    several verifiers of the package evaluate the answer as code.
    """

    def __init__(
        self, spec: specs.ReasoningGym, context: StageContext, *, policy: Policy, environment: Environment | None = None
    ) -> None:
        super().__init__(spec, context, policy=policy, environment=environment)
        self.spec = spec
        self.shown = f"reasoning_gym/{spec.task}"
        self._argument = {"task": spec.task, "size": spec.size, "seed": spec.task_seed, "options": spec.options}
        self._pool = WorkerPool("recipec.runtime.reward.worker_main:gym", self._argument, what=self.shown)

    def encoded(self) -> list[Encoded]:
        """Make every task and encode what the stage's kind needs of it."""
        entries = self._made()[: self.spec.limit]
        rows = [Row(i, self.shown, i + 1, columns) for i, columns in enumerate(entries)]
        questions = self.prompts(rows) or [str(row.columns["question"]) for row in rows]
        return [self._encode(row, f"{q}{self.spec.prompt_suffix}") for row, q in zip(rows, questions, strict=True)]

    def _made(self) -> Sequence[Mapping[str, Any]]:
        """Return the columns of every task."""
        key = json.dumps(self._argument, sort_keys=True)
        if key in _MADE:
            return _MADE[key]
        try:
            (entries,) = self._pool.ask([None], START_SECONDS)
        except HandlerError as error:
            raise RecipeError(self._declined(error)) from None
        if isinstance(entries, WorkerFailure):
            raise RecipeError(errors.task_options(self.spec.task, entries.message or "making the tasks took too long"))
        tasks: Sequence[Mapping[str, Any]] = entries
        if len(tasks) <= _FEW:
            _MADE[key] = tasks
        return tasks

    def _declined(self, problem: HandlerError) -> Any:
        if problem.error == "LookupError":
            return errors.unknown_task(self.spec.task, problem.message)
        if problem.error in {"ModuleNotFoundError", "ImportError"}:
            return errors.package_missing("reasoning-gym", "envs", "data `reasoning_gym`")
        return errors.task_options(self.spec.task, problem.message)

    def _encode(self, row: Row, prompt: str) -> Encoded:
        encoded = self.encoder.task(row, prompt)
        task = Task(
            encoded.id, encoded.prompt, encoded.prompt_ids, row.columns, functools.partial(self.score, row.index)
        )
        if self.kind == "rl":
            return (task,)
        answer = row.columns["answer"]
        if not isinstance(answer, str) or not answer.strip():
            raise RecipeError(errors.empty_text(row.file, row.number, "answer"))
        return task, self.encoder.example(row, task, answer)

    def score(self, index: int, text: str) -> float:
        """Return the task's own score of an answer; NaN where its verifier hung or failed."""
        try:
            (answered,) = self._pool.ask([[index, text]], SCORE_SECONDS)
        except HandlerError as error:
            raise RecipeError(reward_errors.judge_broken(self.shown, error.message)) from None
        return math.nan if isinstance(answered, WorkerFailure) else float(answered)

    def close(self) -> None:
        """End the process that scores."""
        self._pool.close()

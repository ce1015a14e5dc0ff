"""Answers that must be JSON of a schema, checked in processes that are killed when they hang."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.worker_pool import WorkerFailure
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.protocols import Part
from recipec.runtime.reward.answers import bad_answer, no_answer_column, tagged
from recipec.runtime.reward.workers import ScoringWorkers
from recipec.spec import reward as specs

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)


class JsonSchema(Part):
    """Check completions against a JSON Schema; see :class:`recipec.spec.reward.JsonSchema`.

    An answer that hangs or kills its child, as a pattern of the schema may, gets NaN.
    """

    def __init__(self, spec: specs.JsonSchema, context: StageContext) -> None:  # noqa: ARG002 - every class takes both
        self.spec = spec
        self._workers = ScoringWorkers("json_schema", "jsonschema", "recipec.runtime.reward.worker_main:json_schema")

    def __call__(self, prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str]) -> dict[str, Tensor]:
        """Score a batch.

        Raises:
            RecipeError: RC741, RC742 the schema of a row is not valid; RC960 that of the recipe is not; RC744 more
                than one in a hundred failed.
        """
        prompts = by_prompt_R.tolist()
        schema = {p: self._schema(prompt_P[p]) for p in set(prompts)}
        pairs = [
            (schema[p], fenced(tagged(text, self.spec.tag) or "")) for p, text in zip(prompts, text_R, strict=True)
        ]
        distinct = list(dict.fromkeys(pairs))
        replies = self._workers.ask([list(pair) for pair in distinct], self.spec.timeout)
        answers = dict(zip(distinct, replies, strict=True))
        scores = [self._score(prompt_P[p], answers[pair]) for p, pair in zip(prompts, pairs, strict=True)]
        if self.spec.weight:
            self._workers.tally.add(len(scores), [t for t, s in zip(text_R, scores, strict=True) if math.isnan(s)])
        return {"reward_R": torch.tensor(scores, dtype=torch.float64)}

    def _schema(self, task: Task) -> str:
        """Return the schema of a row as JSON text."""
        value: Any = self.spec.json_schema
        if value is None:
            if self.spec.column not in task.columns:
                raise no_answer_column(task, self.spec.column, "column")
            value = task.columns[self.spec.column]
        return value if isinstance(value, str) else json.dumps(value, default=str)

    def _score(self, task: Task, answer: Any) -> float:
        if isinstance(answer, WorkerFailure):
            return math.nan
        if isinstance(answer, str):
            if self.spec.json_schema is not None:
                raise RecipeError(errors.bad_schema(answer))
            value = task.columns[self.spec.column]
            raise bad_answer(task, self.spec.column, value, f"not a JSON Schema: {answer}")
        return self.spec.valid if answer else self.spec.invalid

    def close(self) -> None:
        """End the child processes."""
        self._workers.close()


def fenced(text: str) -> str:
    r"""Return what is in the last Markdown fence of a text, or all of it.

    >>> fenced("Here:\n```json\n[1]\n```"), fenced("[2]")
    ('[1]\n', '[2]')
    """
    blocks = _FENCED.findall(text)
    return str(blocks[-1]) if blocks else text


def read_json(value: Any) -> Any:
    """Return an object or a list that a column holds, or holds as JSON text; None where it is neither.

    >>> read_json('[{"a": 1}]'), read_json([1]), read_json("no")
    ([{'a': 1}], [1], None)
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, Mapping | list) else None

"""Scores of a language model behind an OpenAI-compatible service; see :class:`recipec.spec.reward.Judge`."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult

import torch
from torch import Tensor

from recipec.diagnostics.errors import reward as errors
from recipec.diagnostics.errors.search import service_fails
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.http_client import HttpFailure, HttpService, read_address
from recipec.host.preflight import PreflightRequest
from recipec.host.templates import Renderer
from recipec.runtime.batch import Task, text_of
from recipec.runtime.context import StageContext
from recipec.runtime.data import templates
from recipec.runtime.protocols import Part
from recipec.runtime.reward.judge_answers import KeptAnswers, Verdict, read_answer, score_of
from recipec.spec import reward as specs

_PATH = "/chat/completions"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a judge is, and what lets in: ``Endpoint(read_address("judge", url), {"Content-Type": …})``."""

    address: SplitResult
    headers: Mapping[str, str]


class Judge(Part):
    """A judge; its answers are kept in the folder of the stage."""

    def __init__(self, spec: specs.Judge, context: StageContext) -> None:
        self.spec = spec
        self.endpoint = endpoint(spec, context.services, context.service_keys)
        self.renderer = Renderer(*templates.template_text(context.root, spec.rubric))
        self.kept = KeptAnswers(None if context.home is None else context.home / "judge" / "answers.jsonl")

    def __call__(self, prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str]) -> dict[str, Tensor]:
        """Return the score of each row, float64; NaN, or `unscored`, for a row without one.

        Raises:
            RecipeError: RC711 a column of the rubric is missing, RC713 the rubric failed.
        """
        tasks = [prompt_P[prompt] for prompt in by_prompt_R.tolist()]
        rows = [
            {**task.columns, "prompt": _shown(task), "completion": text}
            for task, text in zip(tasks, text_R, strict=True)
        ]
        bodies = [request(self.spec, text) for text in self.renderer.rows(rows, lambda row: f"row {row + 1}")]
        keys = [hashlib.sha256(body).hexdigest() for body in bodies]
        new = {key: body for key, body in zip(keys, bodies, strict=True) if key not in self.kept}
        with ThreadPoolExecutor(self.spec.concurrency) as pool:
            verdicts = list(pool.map(self._verdict, new.items()))
        for key, verdict in zip(new, verdicts, strict=True):
            if verdict is not None:
                self.kept.add(key, verdict)
        cached = [self.kept.get(key) for key in keys]
        scores = [math.nan if verdict is None else score_of(self.spec, verdict.text) for verdict in cached]
        score_R = torch.tensor(scores, dtype=torch.float64)
        unscored = score_R.isnan()
        if self.spec.unscored is not None:
            score_R = torch.where(unscored, self.spec.unscored, score_R)
        return {"reward_R": score_R, **self._counted(new, verdicts, int(unscored.sum()))}

    def _verdict(self, item: tuple[str, bytes]) -> Verdict | None:
        """Ask the judge; None where no attempt gave an answer of the protocol."""
        key, body = item
        service = HttpService(self.endpoint.address, self.spec.timeout, self.spec.retries, (key,))
        for answer in service.attempts(body, self.endpoint.headers):
            if not isinstance(answer, HttpFailure) and (verdict := read_answer(answer)) is not None:
                return verdict
        return None

    def _counted(self, new: Mapping[str, bytes], verdicts: Sequence[Verdict | None], unscored: int) -> dict[str, Any]:
        answered = [verdict for verdict in verdicts if verdict is not None]
        tokens_in, tokens_out = (sum(of) for of in ([v.tokens_in for v in answered], [v.tokens_out for v in answered]))
        cost = (self.spec.price_in * tokens_in + self.spec.price_out * tokens_out) / 1e6
        counts = {"requests": len(new), "unscored": unscored, "tokens_in": tokens_in, "tokens_out": tokens_out}
        return {f"metric/judge/{name}": torch.tensor(value) for name, value in {**counts, "cost": cost}.items()}

    def close(self) -> None:
        """End the child that renders the rubric."""
        self.renderer.close()


def endpoint(spec: specs.Judge, services: Mapping[str, str], keys: Mapping[str, str]) -> Endpoint:
    """Return where requests to a judge go; the key is read from the environment here, and kept nowhere else.

    Raises:
        RecipeError: RC803, the address is not valid; RC954, the environment has no key.
    """
    address = read_address(spec.service, services[spec.service])
    if not address.path.endswith(_PATH):
        address = address._replace(path=address.path.rstrip("/") + _PATH)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "recipec"}
    if variable := keys.get(spec.service):
        key = os.environ.get(variable, "")
        if not key or not key.isascii() or not key.isprintable():
            raise RecipeError(errors.no_key(spec.service, variable))
        headers["Authorization"] = f"Bearer {key}"
    return Endpoint(address, headers)


def request(spec: specs.Judge, text: str, *, max_tokens: int | None = None) -> bytes:
    """Return the body of a request; equal requests have equal bytes."""
    messages = [{"role": "system", "content": spec.system}] if spec.system else []
    messages.append({"role": "user", "content": text})
    body = {"model": spec.model, "messages": messages, "temperature": spec.temperature}
    return json.dumps({**body, "max_tokens": max_tokens or spec.max_tokens}, ensure_ascii=True).encode()


def check(spec: specs.Judge, preflight: PreflightRequest) -> Iterator[Diagnostic]:
    """Yield what a run with this judge would lack: a valid rubric, its key, an answer to a request of one token."""
    yield from (replace(diagnostic, path="rubric") for diagnostic in templates.choose(preflight.root, spec.rubric))
    try:
        where = endpoint(spec, preflight.services, preflight.service_keys)
    except RecipeError as error:
        yield from error.diagnostics
        return
    service, problem = HttpService(where.address, min(spec.timeout, 20.0), 1, ("check",)), ""
    for answer in service.attempts(request(spec, "1", max_tokens=1), where.headers):
        problem = answer.problem if isinstance(answer, HttpFailure) else ""
        if not problem and read_answer(answer) is None:  # type: ignore[arg-type]
            problem = "its answer is not one of chat completions"
        if not problem:
            return
    yield service_fails(spec.service, preflight.services[spec.service], problem, "service")


def _shown(task: Task) -> str:
    """Return a prompt as text: that of a conversation with the names of its roles."""
    if isinstance(task.prompt, str):
        return task.prompt
    return "\n".join(f"{message['role']}: {text_of(message['content'])}" for message in task.prompt)

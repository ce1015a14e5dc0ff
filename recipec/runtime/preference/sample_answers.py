"""Answers of the initial policy of a stage, sampled and saved in chunks, so that a run can continue after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from recipec.host.artifacts import write_atomic
from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext, StoppedBeforeFirstStep
from recipec.runtime.protocols import Policy
from recipec.runtime.rollout.chain import ChainSampler, sample, texts
from recipec.runtime.rollout.engine import Key
from recipec.runtime.rollout.episodes import keys_of, turn_sampling

ROWS = 128
"""Answers of a chunk."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A sampled answer: ids, text, whether it ended by itself, and the key of its random numbers.

    Example: ``Answer((5, 9, 2), "It itches.", True, (0, "align", "preference", "answer", 3, 1))``.
    """

    ids: tuple[int, ...]
    text: str
    ended: bool
    seed: Key


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """A prompt to sample answers for; ``way`` separates the random numbers of two prompts of the same task.

    Example: ``AnswerRequest("answer", task)``.
    """

    way: str
    task: Task


class AnswerSampler:
    """Samples answers with the parameters of the stage's sampler.

    An answer depends on the policy, the prompt and its key.  Chunks begin at the same prompts in a continued run, so
    its answers are bit-identical.
    """

    def __init__(self, context: StageContext, policy: Policy, sampler: ChainSampler) -> None:
        """Sample with the engine and the parameters of the stage's sampler."""
        self.context = context
        self.policy = policy
        self.engine = sampler.engine
        self.spec: Any = sampler.spec
        self.sampling = replace(turn_sampling(self.spec), max_length=self.spec.max_completion_length)
        self.samples: int = self.spec.num_generations
        self.folder = None if context.home is None else context.home / "answers"

    def __call__(self, asks: Sequence[AnswerRequest]) -> list[list[Answer]]:
        """Return the answers to each request, in order.

        Raises:
            StoppedEarly: a stop was requested; answers sampled so far are kept.
            RecipeError: RC783, a prompt leaves no room for an answer.
        """
        self.policy.eval()
        size = max(1, ROWS // self.samples)
        answers: list[list[Answer]] = []
        for number, start in enumerate(range(0, len(asks), size)):
            answers += self._chunk(number, asks[start : start + size])
            self.context.say(f"answered {len(answers)} of {len(asks)} prompts for pairs")
        return answers

    def discard_partial(self) -> None:
        """Remove the saved answers, after the pairs are committed."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _chunk(self, number: int, asks: Sequence[AnswerRequest]) -> list[list[Answer]]:
        path = None if self.folder is None else self.folder / f"chunk-{number:06d}.json"
        mark = "" if path is None else self._mark(asks)
        kept = None if path is None else self.context.ranks.on_leader(lambda: _kept(path, mark))
        if kept is not None:
            return [list(_read(group)) for group in kept]
        if self.context.stopped():
            raise StoppedBeforeFirstStep
        answers = self._sampled(asks)
        if path is not None:
            rows = [[[list(a.ids), a.text, a.ended, list(a.seed)] for a in group] for group in answers]
            write_atomic(path, json.dumps({"mark": mark, "answers": rows}))
        return answers

    def _sampled(self, asks: Sequence[AnswerRequest]) -> list[list[Answer]]:
        answers: dict[int, list[Answer]] = {}
        for way in dict.fromkeys(ask.way for ask in asks):
            places = [i for i, ask in enumerate(asks) if ask.way == way]
            tasks = [asks[i].task for i in places]
            key = (self.context.seed, self.context.stage, "preference", way)
            groups = sample(self.engine, tasks, self.sampling, self.samples, key)
            keys = keys_of(tasks, self.samples, key)
            for place, group, own in zip(places, groups, keys, strict=True):
                decoded = texts(self.policy, group)
                answers[place] = [
                    Answer(c.ids, text, c.ended, seed) for c, text, seed in zip(group, decoded, own, strict=True)
                ]
        return [answers[i] for i in range(len(asks))]

    def _mark(self, asks: Sequence[AnswerRequest]) -> str:
        """Hash everything that the answers depend on; the filters can change without new answers."""
        requests = [[ask.way, ask.task.id, list(ask.task.prompt_ids)] for ask in asks]
        pictures = [[picture.digest for picture in ask.task.images] for ask in asks]
        keys = [self.samples, self.context.seed, self.context.stage, self._weights]
        return hashlib.sha256(json.dumps([requests, pictures, repr(self.sampling), keys]).encode()).hexdigest()

    @cached_property
    def _weights(self) -> str:
        return str(self.policy.fingerprint())


def _kept(path: Path, mark: str) -> list[list[Any]] | None:
    """Read saved answers; None where they have another mark or cannot be read."""
    try:
        answers = json.loads(path.read_text(encoding="utf-8"))
        for group in answers["answers"]:
            list(_read(group))
        return list(answers["answers"]) if answers["mark"] == mark else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(group: Sequence[Any]) -> Iterator[Answer]:
    for ids, text, ended, seed in group:
        yield Answer(tuple(ids), text, ended, tuple(seed))

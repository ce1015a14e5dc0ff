"""Tasks of reasoning-gym as episodes; see :class:`recipec.spec.environment.ReasoningGymEpisodes`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recipec.diagnostics.errors import environment as errors, reward as reward_errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import Task, question
from recipec.runtime.context import StageContext
from recipec.runtime.environment.episode_state import TIMEOUT, EpisodeState, Turn
from recipec.runtime.environment.prompt_builder import (
    NO_ACTION,
    Observation,
    PastTurn,
    PromptBuilder,
    PromptInput,
    read_next,
)
from recipec.runtime.protocols import Environment, Policy
from recipec.runtime.reward.answers import tagged
from recipec.spec import environment as specs

WRONG = "That is not right. Try again."
_LONGEST = 500
"""Most characters of an answer in a state key and in a prompt."""


@dataclass(frozen=True, slots=True)
class Tries:
    """The answers of an episode so far, each with the observation before it."""

    past: tuple[PastTurn, ...] = ()


class ReasoningGymEpisodes(Environment):
    """After a wrong answer the policy may try again.

    The answer is the last ``<answer>…</answer>`` of a turn, or the whole turn without one.  The episode ends with a
    score of 1 or at the last turn; its reward is the score of its last answer.  The state key is the list of wrong
    answers.  Only the verifier of the data runs in a process, so an episode can continue from any state.
    """

    def __init__(self, spec: specs.ReasoningGymEpisodes, context: StageContext, *, policy: Policy) -> None:
        self.spec = spec
        self.layout = PromptBuilder(
            context, policy, spec.history, spec.template, "reasoning_gym", max_turns=spec.max_turns, chat=spec.chat
        )
        self.stops = self.layout.stops

    def tasks(self, split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:  # noqa: ARG002 - the protocol's
        """Raise an error: tasks come from data `reasoning_gym`.

        Raises:
            RecipeError: RC811.
        """
        raise RecipeError(
            errors.no_tasks(self.spec.type, split, "its tasks are those of `data: {type: reasoning_gym}`")
        )

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin one episode of each task.

        Raises:
            RecipeError: RC740, a task has no verifier.
        """
        for task in tasks:
            if task.score is None:
                raise RecipeError(reward_errors.no_verifier(task.id))
        begun = [EpisodeState(task, (), state=[], observation=question(task), notes=Tries()) for task in tasks]
        return read_next(self.layout, begun, [()] * len(begun), self._asked)

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Score one answer of each episode."""
        states = [self._after(position, turn) for position, turn in zip(positions, turns, strict=True)]
        before = [(*p.context_ids, *t.ids) for p, t in zip(positions, turns, strict=True)]
        return read_next(self.layout, states, before, self._asked)

    def close(self) -> None:
        """Stop the rendering process."""
        self.layout.close()

    def _after(self, position: EpisodeState, turn: Turn) -> EpisodeState:
        answer, turns = self._answer(turn.text), position.turns + 1
        assert position.task.score is not None
        after = replace(position, turns=turns, kept=len(turn.ids), reward=0.0, valid=bool(answer), calls=0)
        score = position.task.score(answer)
        if math.isnan(score):
            return replace(after, ended=True, error=f"{TIMEOUT}: the task's verifier failed or took too long")
        over = score >= 1.0 or turns >= self.spec.max_turns
        past = (*position.notes.past, PastTurn(_shown(position), answer[:_LONGEST] or NO_ACTION, turn.text))
        return replace(
            after,
            state=[*position.state, answer[:_LONGEST]],
            ended=over,
            truncated=over and score < 1.0,
            reward=float(score) if over else 0.0,
            observation="" if score >= 1.0 else WRONG,
            notes=Tries(past),
        )

    def _answer(self, text: str) -> str:
        if self.layout.action_tag:
            return self.layout.read(text, Observation("")).text or ""
        answer = tagged(text, "answer")
        return (text if answer is None else answer).strip()

    def _asked(self, position: EpisodeState, before: tuple[int, ...]) -> PromptInput:
        task = position.task
        opening = task.prompt if self.spec.history == "append_only" and self.spec.template is None else None
        return PromptInput(task, question(task), _shown(position), position.notes.past, before, opening)


def _shown(position: EpisodeState) -> Observation:
    return Observation(position.observation)

"""Counting tokens; see :class:`recipec_demo.spec.environment.Counting`."""

from collections.abc import Sequence
from dataclasses import replace

from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.episode_state import EpisodeState, Turn
from recipec.runtime.protocols import Environment, Policy
from recipec_demo.spec.environment import Counting


class CountingEnvironment(Environment):
    """Answer each turn with the number of tokens so far."""

    def __init__(self, spec: Counting, context: StageContext, *, policy: Policy) -> None:  # noqa: ARG002 - one signature
        """Write answers with the tokenizer of ``policy``."""
        self.spec = spec
        self.policy = policy

    def start(self, tasks: Sequence[Task]) -> list[EpisodeState]:
        """Begin at 0."""
        return [EpisodeState(task, task.prompt_ids, state="0", notes=0) for task in tasks]

    def step(self, positions: Sequence[EpisodeState], turns: Sequence[Turn]) -> list[EpisodeState]:
        """Add the tokens of each turn."""
        return [self._one(position, turn) for position, turn in zip(positions, turns, strict=True)]

    def _one(self, position: EpisodeState, turn: Turn) -> EpisodeState:
        count = position.notes + len(turn.ids)
        answer = f" {count} "
        ids = tuple(self.policy.tokenizer(answer, add_special_tokens=False)["input_ids"])
        taken = position.turns + 1
        return replace(
            position,
            context_ids=position.context_ids + turn.ids + ids,
            turns=taken,
            state=str(count),
            ended=taken >= self.spec.max_turns,
            kept=len(turn.ids),
            reward=float(count % self.spec.multiple == 0),
            observation=answer,
            notes=count,
        )

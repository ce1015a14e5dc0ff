"""Small games in this process, and a policy over bytes to play them: real environments, to the protocol's letter."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from support.tiny_models import byte_tokenizer, sampling_policy, tiny_model

from recipec.runtime.batch import Task
from recipec.runtime.context import StageContext
from recipec.runtime.environment.episode_state import EpisodeState
from recipec.runtime.graph_runner import build_part
from recipec.runtime.protocols import Environment
from recipec.runtime.rollout.engine import SamplingParams
from recipec.runtime.rollout.episodes import Growth, keys_of, roots
from recipec.runtime.rollout.hf_engine import HfEngine
from recipec.spec.rollout_engine import Hf


def make_policy(kind="llama"):
    """Build a tiny model with sharp distributions over bytes; ids below 9 end a turn."""
    tokenizer = byte_tokenizer()
    model = tiny_model(kind, 6, vocab_size=len(tokenizer), max_position_embeddings=512, eos_token_id=1)
    return sampling_policy(model, tokenizer, range(1, 9))


def tasks(count=3):
    """Make tasks of unequal length."""
    return [Task(10 + i, "go" * (i + 1), tuple(range(80, 84 + 3 * i))) for i in range(count)]


class Counting(Environment):
    """Add up the bytes of each turn; over after some turns, which is where a reward is given.

    Each turn's prompt goes on from the turn before, or, with ``window``, is written anew.
    """

    stops = ("!",)

    def __init__(self, policy, turns=3, *, window=False, kept=None, broken=(), errors=(), answer=" so: {} "):
        self.policy, self.turns, self.window, self.kept = policy, turns, window, kept
        self.broken, self.errors, self.answer = broken, errors, answer
        self.steps = []
        """How many turns each call answered."""

    def tasks(self, *_):
        """List nothing."""
        return []

    def start(self, tasks):
        """Begin at the task's prompt."""
        return [EpisodeState(task, task.prompt_ids, state=f"{task.id}:0", notes=0) for task in tasks]

    def step(self, positions, turns):
        """Answer with the sum."""
        self.steps.append(len(positions))
        return [self._one(p, t) for p, t in zip(positions, turns, strict=True)]

    def _one(self, position, turn):
        kept = len(turn.ids) if self.kept is None else min(self.kept, len(turn.ids))
        total, number = position.notes + sum(turn.ids[:kept]), position.turns + 1
        said = self.answer.format(total)
        fresh = tuple(self.policy.tokenizer(said)["input_ids"])
        before = position.task.prompt_ids if self.window else position.context_ids + turn.ids[:kept]
        if (position.task.id, number) in self.broken:
            before = before[1:]
        over = number >= self.turns + position.task.id % 2
        error = "the world broke" if (position.task.id, number) in self.errors else None
        return replace(
            position,
            context_ids=before + fresh,
            turns=number,
            state=f"{position.task.id}:{total % 5}",
            ended=over or error is not None,
            error=error,
            kept=kept,
            reward=float(total % 7),
            valid=total % 3 > 0,
            calls=1,
            observation=said,
            notes=total,
        )


@dataclass(frozen=True)
class Game:
    """The context of a stage that plays the counting game, and the parts that its sampler is built of."""

    context: StageContext
    policy: Any
    environment: Counting | None
    engine: HfEngine

    def sampler(self, spec):
        """Build the sampler of a spec."""
        parts = {"policy": self.policy, "rollout_engine": self.engine, "environment": self.environment}
        return build_part(spec, self.context, parts)


def make_game(kind="llama", seed=5, engine=None, **game):
    """Build a game around a model of a kind; ``engine`` is the spec of what samples from it."""
    context = StageContext(root=Path(), cache=Path(), seed=seed, stage="explore")
    policy = make_policy(kind)
    return Game(context, policy, Counting(policy, **game), HfEngine(engine or Hf(), context, policy=policy))


def grown(game, samples=2, max_context_length=None, sampling=None, key=(7,)):
    """Grow chains of three tasks; return their leaves."""
    growth = Growth(game.policy, game.environment, game.engine, sampling or SamplingParams(12), max_context_length)
    keys = [k for group in keys_of(tasks(), samples, key) for k in group]
    return growth.grow(roots(game.environment, tasks(), samples), keys)

"""Chains: independent completions of each prompt, or independent episodes where there is an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from recipec.runtime.protocols import Environment, Part, Policy, RolloutEngine
from recipec.runtime.rollout import metrics
from recipec.runtime.rollout.engine import Completion, Key, Request, SamplingParams
from recipec.runtime.rollout.episodes import Errors, Growth, decode, keys_of, roots, turn_sampling
from recipec.runtime.rollout.interruption import interrupted
from recipec.runtime.rollout.rows import rows_from, sampled_columns, versions_of

if TYPE_CHECKING:
    from recipec.runtime.batch import Task
    from recipec.runtime.context import StageContext
    from recipec.spec.sampler import Chain as Spec


class ChainSampler(Part):
    """Sample a group of completions or episodes of every prompt; see :class:`recipec.spec.sampler.Chain`.

    Without an environment an episode is one turn, so that a row is the whole episode under ``rows: step`` as well;
    its state is then the task.
    """

    def __init__(
        self,
        spec: Spec,
        context: StageContext,
        *,
        policy: Policy,
        rollout_engine: RolloutEngine,
        environment: Environment | None = None,
    ) -> None:
        """Sample from ``policy`` by ``rollout_engine``; without an environment an episode is one completion."""
        self.spec = spec
        self.context = context
        self.policy = policy
        self.engine = rollout_engine
        self.environment = environment
        self.tokens = 0  # prompts and completions, since the stage began
        self.episodes = 0
        self.errors = Errors()

    def __call__(self, prompt_P: Sequence[Task], *, step: int = 0, attempt: int = 0) -> dict[str, Any]:
        """Return the rows of the prompts, in order, and statistics under ``metric/``.

        Raises:
            RecipeError: RC785 where more than a fifth of a step's episodes ended in error.
        """
        key = (self.context.seed, self.context.stage, step)
        environment = self.environment
        rows = (
            self._completions(prompt_P, key, attempt)
            if environment is None
            else self._played(environment, prompt_P, key, attempt)
        )
        self.tokens += int(rows["attend_RT"].sum())
        if self.spec.max_staleness:
            rows |= versions_of(rows, self.engine)
        return rows | {"metric/num_tokens": self.tokens}

    def _completions(self, prompt_P: Sequence[Task], key: Key, attempt: int) -> dict[str, Any]:
        sampling = replace(turn_sampling(self.spec), max_length=self.spec.max_completion_length)
        interrupt, greedy = self.spec.interrupt, int(self.spec.greedy_first)
        groups = self._written(prompt_P, sampling, self.spec.num_generations - greedy, key, attempt)
        if greedy:
            firsts = self._written(prompt_P, replace(sampling, temperature=0.0), 1, key, attempt)
            groups = [[*first, *group] for first, group in zip(firsts, groups, strict=True)]
        completions = [completion for group in groups for completion in group]
        signals = rows_of(self.policy, prompt_P, groups)
        if greedy:
            signals["greedy_R"] = torch.tensor([place == 0 for group in groups for place in range(len(group))])
        signals["episode_id_R"] += self.episodes
        if self.spec.rows == "step":
            signals["by_episode_R"] = signals["episode_id_R"]
            signals["state_R"] = [str(prompt) for prompt in signals["prompt_id_R"].tolist()]
        self.episodes += len(completions)
        if interrupt is not None:
            share = float(np.mean([c.given[1] > c.given[0] for c in completions]))
            signals["metric/completions/interrupted_ratio"] = share
        return signals | _statistics(completions)

    def _written(
        self, prompt_P: Sequence[Task], sampling: SamplingParams, samples: int, key: Key, attempt: int
    ) -> list[list[Completion]]:
        """Return completions of each prompt; thoughts that are too long are interrupted where the recipe says so."""
        requests, interrupt = requests_of(prompt_P, samples, key, attempt), self.spec.interrupt
        if interrupt is None:
            return self.engine.generate(requests, sampling)
        return interrupted(self.engine, self.policy, requests, sampling, interrupt)

    def _played(self, environment: Environment, prompt_P: Sequence[Task], key: Key, attempt: int) -> dict[str, Any]:
        samples = self.spec.num_generations
        growth = Growth(self.policy, environment, self.engine, turn_sampling(self.spec), self.spec.max_context_length)
        keys = [k for group in keys_of(prompt_P, samples, key, attempt) for k in group]
        by_prompt = [i for i in range(len(prompt_P)) for _ in range(samples)]
        leaves = growth.grow(roots(environment, prompt_P, samples), keys)
        growth.clear_cache()
        signals = rows_from(prompt_P, leaves, by_prompt, self.spec.rows, self.episodes)
        self.errors.refuse(leaves, attempt)
        self.episodes += len(leaves)
        return signals | metrics.episodes(leaves, self.spec.rows)

    def state(self) -> dict[str, Any]:
        """Return the counters."""
        return {"tokens": self.tokens, "episodes": self.episodes}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue counting."""
        self.tokens, self.episodes = int(state["tokens"]), int(state["episodes"])


def sample(
    engine: RolloutEngine, tasks: Sequence[Task], sampling: SamplingParams, samples: int, key: Key, attempt: int = 0
) -> list[list[Completion]]:
    """Write ``samples`` completions of each task; sample ``i`` of task ``t`` draws from ``(*key, t.id, i)``.

    A task that occurs again continues the count, so that no two rows draw the same numbers.
    An evaluation gives a key of its own, such as ``(seed, "evaluate", name)``, and disturbs nothing.
    """
    return engine.generate(requests_of(tasks, samples, key, attempt), sampling)


def requests_of(tasks: Sequence[Task], samples: int, key: Key, attempt: int) -> list[Request]:
    """Make a request of each task, for ``samples`` completions."""
    keys = keys_of(tasks, samples, key, attempt)
    return [Request(tuple(t.prompt_ids), k, t.id, images=t.images) for t, k in zip(tasks, keys, strict=True)]


def rows_of(policy: Policy, prompt_P: Sequence[Task], groups: Sequence[Sequence[Completion]]) -> dict[str, Any]:
    """Lay completions out as rows, group by group: every column that a sampler of trajectories provides."""
    by_prompt = [i for i, group in enumerate(groups) for _ in group]
    completions = [completion for group in groups for completion in group]
    rows = len(completions)
    written = texts(policy, completions)
    return {
        **sampled_columns([(prompt_P[i].prompt_ids, c) for i, c in zip(by_prompt, completions, strict=True)]),
        "text_R": written,
        "transcript_R": list(written),
        "env_reward_R": torch.zeros(rows, dtype=torch.float64),
        "action_valid_R": torch.ones(rows, dtype=torch.bool),
        "by_prompt_R": torch.tensor(by_prompt, dtype=torch.int64),
        "prompt_id_R": torch.tensor([prompt_P[i].id for i in by_prompt], dtype=torch.int64),
        "episode_id_R": torch.arange(rows),
        "step_R": torch.zeros(rows, dtype=torch.int64),
        "error_R": torch.zeros(rows, dtype=torch.bool),
        "truncated_R": torch.tensor([not completion.ended for completion in completions], dtype=torch.bool),
        "error_text_R": [""] * rows,
    }


def texts(policy: Policy, completions: Sequence[Completion]) -> list[str]:
    """Decode what was written, special tokens left out."""
    return decode(policy.tokenizer, [c.ids for c in completions])


def _statistics(completions: Sequence[Completion]) -> dict[str, float]:
    """Count the tokens that were sampled, and the lengths of completions."""
    sampled = sum(len(c.ids) - (c.given[1] - c.given[0]) for c in completions)
    counts = metrics.lengths([(len(c.ids), not c.ended) for c in completions])
    return {"metric/tokens/generated": float(sampled), **{f"metric/{name}": value for name, value in counts.items()}}

"""Held-out episodes: the policy plays the tasks of an evaluation, bounded as in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from recipec.component import Component
from recipec.runtime.batch import Task
from recipec.runtime.protocols import Environment, Policy, RolloutEngine
from recipec.runtime.rollout.engine import Key, SamplingParams as Drawing
from recipec.runtime.rollout.episodes import Growth, Node, keys_of, roots
from recipec.runtime.rollout.rows import rows_from
from recipec.spec.environment import Environment as EnvironmentSpec
from recipec.spec.recipe import Sampling

LONGEST = 256
"""Tokens of a turn where neither the evaluation nor a sampler says more."""


@dataclass(frozen=True, slots=True)
class Played:
    """Rows of episodes that were played, and what no row says."""

    rows: dict[str, Any]
    counted: dict[str, float]
    """Turns and tool calls of an episode, on average; the share of calls that failed; episodes in error."""
    full: int = 0
    """Episodes that ended because the next prompt did not fit into the context."""


def longest(sampling: Sampling, limits: Mapping[str, Any]) -> int:
    """Return how many tokens a turn of an evaluation may have.

    >>> longest(Sampling(), {"max_turn_length": 64, "max_completion_length": 128}), longest(Sampling(), {})
    (64, 256)
    """
    limit = sampling.max_completion_length or limits.get("max_turn_length") or limits.get("max_completion_length")
    return int(limit or LONGEST)


def drawing_of(sampling: Sampling, max_length: int) -> Drawing:
    """Return how the tokens of an evaluation are drawn.

    >>> drawing_of(Sampling(temperature=0.6, top_k=50), 8).top_k
    50
    """
    return Drawing(
        max_length=max_length,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop=sampling.stop,
    )


def rows_kind(environment: Component) -> Literal["trajectory", "step"]:
    """Return what a row of an episode is: a trajectory only if each context continues the one before.

    >>> from recipec.spec.environment import SearchQa, Webshop
    >>> rows_kind(SearchQa()), rows_kind(Webshop())
    ('trajectory', 'step')
    """
    assert isinstance(environment, EnvironmentSpec), environment
    return "trajectory" if environment.window() is None else "step"


def play(
    policy: Policy,
    environment: Environment,
    engine: RolloutEngine,
    tasks: Sequence[Task],
    sampling: Sampling,
    limits: Mapping[str, Any],
    rows: Literal["trajectory", "step"],
    key: Key,
) -> Played:
    """Play every task ``sampling.num_generations`` times; the draws are keyed by ``key``, task, sample and turn."""
    drawing = drawing_of(sampling, longest(sampling, limits))
    samples = sampling.num_generations
    growth = Growth(policy, environment, engine, drawing, limits.get("max_context_length"))
    keys = [one for group in keys_of(tasks, samples, key) for one in group]
    leaves = growth.grow(roots(environment, tasks, samples), keys)
    growth.clear_cache()
    by_prompt = [i for i in range(len(tasks)) for _ in range(samples)]
    laid = rows_from(tasks, leaves, by_prompt, rows)
    ends = [leaf.position for leaf in leaves if leaf.position.truncated and leaf.position.error is None]
    full = sum(growth.context is not None and len(end.context_ids) >= growth.context for end in ends)
    return Played({"prompt_P": list(tasks), **laid}, counted(leaves), full)


def counted(leaves: Sequence[Node]) -> dict[str, float]:
    """Average turns and tool calls over episodes, the share of failed calls, and the number of failed episodes."""
    paths = [leaf.path() for leaf in leaves]
    episodes = max(1, len(paths))
    calls = sum(turn.position.calls for path in paths for turn in path)
    return {
        "turns": sum(map(len, paths)) / episodes,
        "tool_calls": calls / episodes,
        "tool_failures": sum(turn.position.failures for path in paths for turn in path) / max(1, calls),
        "errors": float(sum(leaf.position.error is not None for leaf in leaves)),
    }

r"""How much a step samples and trains, from the recipe alone: prompts, episodes, turns, rows, tokens.

Lengths are the longest that the recipe allows.  Trees are counted in expectation: an expansion from a node drawn at
random costs half an episode, so M trees with L rounds of N expansions cost

.. math:: M (1 + L N / 2)

episodes a prompt, and have M (1 + L N) leaves.

References:
    Ji et al., `Tree-GRPO <https://arxiv.org/abs/2509.21240>`_, 2025; their N is a tree's, as in their code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recipec.graph import StageGraph
from recipec.spec.environment import Environment
from recipec.spec.recipe import PAIRED_KINDS
from recipec.spec.sampler import Sampler


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the policy reads and writes in a step."""

    episodes: float
    prompts: float
    """Prompts that are computed: one for a group, or one for every turn where each is rendered again."""
    written: float
    """Tokens that an episode writes."""
    observed: float
    """Tokens that the environment answers in an episode that grows."""
    run: float
    """Tokens that follow a prompt before the next one is computed."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many rows a step has and how long they may be."""

    units: int
    """Prompts, examples or pairs."""
    rows: int
    prompt: int | None
    completion: int | None
    """Tokens of a row that are trained."""
    assumes: tuple[str, ...] = ()
    observed: int = 0
    """Tokens of a row that the environment wrote after its prompt."""
    sampled: Sampled | None = None

    @property
    def row(self) -> int | None:
        """Longest row."""
        return None if self.completion is None else (self.prompt or 0) + self.observed + self.completion


def lengths(stage: StageGraph, positions: int | None = None) -> Lengths:
    """Read the sizes of a step off a stage; what is not given there stays unknown.

    ``positions`` is the longest sequence of the model, where the recipe itself says it.
    """
    sizes, sampler = _lengths(stage, positions), stage.spec(Sampler)
    if sampler is None:
        return sizes
    filtered = sampler.resamples()
    tries = 1 if filtered is None else filtered.max_tries
    assumed = []
    if tries > 1:
        assumed.append(f"`group_filter` samples every prompt {tries} times, the most it may")
    if stage.settings["budget"].get("rows_per_update") and sampler.rows == "step":
        assumed.append(
            "a step has as many updates as its rows make, and how many turns there are is not known "
            "before; the schedule of the learning rate goes by steps"
        )
    of = sizes.sampled
    if of is not None:
        of = replace(of, episodes=of.episodes * tries, prompts=of.prompts * tries)
    return replace(sizes, assumes=(*sizes.assumes, *assumed), sampled=of)


def _lengths(stage: StageGraph, positions: int | None) -> Lengths:
    budget = stage.settings["budget"]
    longest = stage.params("data").get("max_length")
    if stage.kind != "rl":
        units = int(budget["rows_per_step" if stage.kind == "sft" else "pairs_per_step"] or 0)
        assumed = _bounded("row", longest, positions)
        return Lengths(units, units * (2 if stage.kind in PAIRED_KINDS else 1), 0, longest or positions, (assumed,))
    units, sampler, environment = int(budget["prompts_per_step"] or 0), stage.required(Sampler), stage.spec(Environment)
    if environment is not None:
        return _episodes(units, sampler, environment, longest, positions)
    completion = sampler.longest_completion()
    room = max(0, positions - completion) if positions and completion else None
    assumes = ("every completion as long as `sampler.max_completion_length`", _bounded("prompt", longest, room))
    rows = units * sampler.rows_per_prompt()
    sampled = Sampled(rows, units, completion, 0, completion) if completion else None
    return Lengths(units, rows, longest or room, completion, assumes, sampled=sampled)


def _bounded(what: str, longest: int | None, positions: int | None) -> str:
    if longest:
        return f"every {what} as long as `data.max_length`"
    if positions:
        return f"every {what} as long as the model's positions allow, {positions}"
    return f"no `data.max_length`: {what}s are of unknown length" + (", and left out" if what == "prompt" else "")


def _episodes(
    units: int, sampler: Sampler, environment: Environment, longest: int | None, positions: int | None
) -> Lengths:
    turns, turn = environment.most_turns(), sampler.longest_turn() or 0
    limit = sampler.max_context_length or positions
    trees, added = sampler.branches()
    group, played = sampler.rows_per_prompt(), trees * (1 + added / 2)
    assumes = [f"an expansion costs half an episode: {played:g} episodes a prompt for {group} rows"] if added else []
    assumes.append(f"every episode takes all {turns} turns of {turn} tokens")
    if environment.window() is not None and turns > 1:
        prompt = limit - turn if limit else longest
        assumes.append(
            f"every turn's prompt fills the context, {limit}" if limit else _bounded("prompt", longest, None)
        )
        sampled = Sampled(units * played, units * played * turns, turns * turn, 0, turn)
        return Lengths(units, units * group * turns, prompt, turn, tuple(assumes), sampled=sampled)
    assumes.append(_bounded("prompt", longest, None))
    written, observed = _grown(turns, turn, environment.longest_observation(), longest or 0, limit, assumes)
    sampled = Sampled(units * played, units, written, observed, written + observed)
    if sampler.rows == "step":
        context = (longest or 0) + (written + observed) // 2
        return Lengths(units, units * group * turns, context, turn, tuple(assumes), sampled=sampled)
    return Lengths(units, units * group, longest, written, tuple(assumes), observed, sampled)


def _grown(
    turns: int, turn: int, answer: int | None, prompt: int, limit: int | None, assumes: list[str]
) -> tuple[int, int]:
    """Return what is written and what is answered after the prompt of an episode that grows, within its context."""
    written, observed = turns * turn, (turns - 1) * int(answer or 0)
    if answer is None and turns > 1:
        assumes.append("answers of the environment are of unknown length, and left out")
    room = max(0, limit - prompt) if limit else None
    if room is not None and written + observed > room:
        assumes.append(f"an episode ends at its context, {limit} tokens, and is cut in proportion")
        written, observed = room * written // (written + observed), room * observed // (written + observed)
    return written, observed


def minibatches(budget: Mapping[str, Any], units: int, rows: int) -> int:
    """Return how many updates a pass over a step's rows takes.

    >>> minibatches({"rows_per_update": 256, "prompts_per_update": None, "updates_per_step": None}, 16, 6400)
    25
    """
    if budget["rows_per_update"]:
        return max(1, -(-rows // int(budget["rows_per_update"])))
    if budget["prompts_per_update"]:
        return max(1, -(-units // int(budget["prompts_per_update"])))
    return int(budget["updates_per_step"] or 1)

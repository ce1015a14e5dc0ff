"""Estimate sequence lengths and prefix sharing of a training step from the recipe alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recipec.graph import Graph, StageGraph
from recipec.planning.step_sizes import Lengths, lengths, minibatches
from recipec.planning.token_runs import (
    Counts,
    Episode,
    Group,
    TokenRun,
    append_only,
    shared_prompt,
    sliding_window,
    total,
)
from recipec.spec.environment import Environment
from recipec.spec.policy import Policy
from recipec.spec.recipe import PAIRED_KINDS
from recipec.spec.sampler import Sampler
from recipec.spec.train_engine import TrainEngine


@dataclass(frozen=True, slots=True)
class SharingForecast:
    """Segments of a prompt's rows by attention type, and how many prompts (or pairs) a step has."""

    units: int
    rows: int
    forms: Mapping[str, Sequence[TokenRun]]
    tree: float
    """Unique tokens that hang together: those of a group, or of what of it has a prompt in common."""
    assumes: tuple[str, ...] = ()


def forecast(graph: Graph, stage: StageGraph, size: Lengths) -> SharingForecast | str | None:
    """Lay out the rows that a recipe lets expect; a text says why it cannot be known, None that nothing is shared."""
    if stage.kind == "sft":
        return None
    if stage.kind in PAIRED_KINDS:
        return _pairs(graph, stage, size)
    if size.completion is None:
        return "the sampler does not bound the length of a row"
    first = stage.params("data").get("max_length") or size.prompt
    if not first:
        return "prompts are of unknown length: give `data.max_length`, or rows of a run (`--rows`)"
    return _episodes(size, stage.required(Sampler), stage.spec(Environment), float(first))


def _episodes(size: Lengths, sampler: Sampler, environment: Environment | None, first: float) -> SharingForecast:
    """Lay out episodes, the first prompt of which has ``first`` tokens."""
    assert size.completion is not None, "rows are bounded"
    group = Group.of(sampler)
    if environment is None:
        return _laid(size, group, Episode(size.prompt or 0, 1, size.completion), steps=False)
    turns, steps = environment.most_turns(), sampler.rows == "step"
    if environment.window() is not None and turns > 1:
        episode = Episode(size.prompt or 0, turns, size.completion)
        assumed = (
            "of prompts rendered for each turn, rows share a group's first one; what histories have in common, and"
        )
        assumed += " what precedes them, is added: `--rows` measures it"
        forms = {
            "prefixes": sliding_window(group, episode),
            "prompts": shared_prompt(group, episode, steps=True, windowed=True),
        }
        return SharingForecast(
            size.units, size.rows, forms, episode.prompt + group.leaves * episode.written, (assumed,)
        )
    assert size.sampled is not None, "an episode is played"
    observed = size.sampled.observed / (turns - 1) if turns > 1 else 0.0
    return _laid(size, group, Episode(first, turns, size.sampled.written / turns, observed), steps=steps)


def _laid(size: Lengths, group: Group, episode: Episode, *, steps: bool) -> SharingForecast:
    forms = {
        "prefixes": append_only(group, episode, steps=steps),
        "prompts": shared_prompt(group, episode, steps=steps),
    }
    return SharingForecast(size.units, size.rows, forms, total(s.once() for s in forms["prefixes"]).tokens)


def _pairs(graph: Graph, stage: StageGraph, size: Lengths) -> SharingForecast | str:
    """Two answers of one prompt: of the stage that sampled them, where one did."""
    source = str(stage.params("preference").get("rollouts") or "").rpartition(".")[0]
    sampled = next((other for other in graph.stages if other.name == source), None)
    if sampled is None or sampled.spec(Environment) is not None:
        return "how the tokens of a pair divide into prompt and answers: `--rows` measures it"
    of = lengths(sampled)
    if of.prompt is None or of.completion is None:
        return f"prompts or answers of `{source}` are of unknown length"
    return _laid(size, Group(2), Episode(of.prompt, 1, of.completion), steps=False)


def hands_over(graph: Graph, stage: StageGraph) -> bool:
    """Whether updates compute a prefix once where passes cut its tree; passes without a gradient never do."""
    machine = graph.machine
    ranks = int(machine.get("devices") or 1) * int(machine.get("nodes") or 1)
    exact = machine.get("exactness") == "exact"
    return not exact and stage.required(TrainEngine).hands_over(ranks) and not stage.required(Policy).sees


def counted(
    stage: StageGraph, forecasted: SharingForecast, segments: Sequence[TokenRun], *, handed: bool
) -> tuple[Counts, Counts, Counts]:
    """Count a step's unique tokens: in passes without a gradient, and in its updates if groups stay together or not.

    In updates over several minibatches of shuffled rows, a token of two minibatches counts twice.
    """
    budget = stage.settings["budget"]
    once = total(s.once() for s in segments)
    # a tree over the budget of a forward pass is cut, and each part computes the prompt again
    more = segments[0].once().scaled(max(0, math.ceil(forecasted.tree / budget["microbatch_tokens"]) - 1))
    cut = minibatches(budget, forecasted.units, forecasted.rows) if budget["shuffle_rows"] else 1
    per_step = (once + more).scaled(forecasted.units)
    unshuffled = once.scaled(forecasted.units) if handed else per_step
    return (
        per_step,
        unshuffled,
        unshuffled if cut == 1 else total(s.once(cut) for s in segments).scaled(forecasted.units),
    )

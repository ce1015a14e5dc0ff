"""The nodes of credit: levels of advantage, and what makes one advantage of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from recipec.component import Component
from recipec.lowering.drafts import Take, UnboundNode, level_node, op
from recipec.spec.advantage import Advantage
from recipec.spec.recipe import Stage


def draft_credit(name: str, stage: Stage) -> list[UnboundNode]:
    """Draft the levels of credit and what makes one credit of them.

    ``sum`` adds them; ``sequential`` hands the credit so far to the next level, in the order of the recipe;
    ``per_token`` compares the tokens of a group in place of its rows, and needs no broadcast.
    Levels that credit tokens are added to what their rows have in common; the sum is then whitened and bounded.
    A level that compares the values of one reward leaves out the rows that this reward did not score.
    """
    return [one for draft in _levels_and_sums(name, stage) for one in _of_scored_rows(name, draft)]


def _of_scored_rows(name: str, draft: UnboundNode) -> Iterator[UnboundNode]:
    """Draft which rows have a value where a level compares those of one reward; then the level."""
    source = next((source for _, signal, source in draft.needs if signal == "reward_R"), "")
    if not source:
        yield draft
        return
    needs = ("failed_R", ("reward_R", "reward_R", source))
    unscored = op(name, f"unscored.{draft.level}", "advantage:unscored", needs, ("unscored_R",))
    yield replace(unscored, publishes=False)
    bound = {"failed_R": ("failed_R", "unscored_R", unscored.id)}
    yield replace(draft, needs=tuple(bound.get(need[0], need) for need in draft.needs))


def _levels_and_sums(name: str, stage: Stage) -> list[UnboundNode]:
    if not stage.advantage:
        return []
    keys = (f"stages.{name}.advantage.combine",)
    if stage.combine == "per_token":
        levels = [
            _token_level(level_node(name, "advantage", level, spec), spec)
            for level, spec in sorted(stage.advantage.items())
        ]
        return [*levels, _sum_of_tokens(name, levels, keys)]
    written = stage.advantage.items() if stage.combine == "sequential" else sorted(stage.advantage.items())
    levels = [level_node(name, "advantage", level, spec) for level, spec in written]
    last = levels
    if stage.combine == "sequential":
        for place, before in enumerate(levels[:-1], 1):
            levels[place] = replace(levels[place], needs=tuple(_continued(levels[place].needs, before.id)))
        last = levels[-1:]
    fine = [level for level in levels if "advantage_RT" in level.outputs]
    last = [level for level in last if level not in fine]
    if fine and not last:
        return [*levels, *_of_tokens(name, stage, fine, keys)]
    summed = [("*advantage_R", "advantage_R", level.id) for level in last]
    totals = [op(name, "sum.advantage_R", "sum_advantages", summed, ("advantage_R",), keys=keys)]
    if stage.whiten != "none" and not fine:
        needs = ("failed_R", "trained_RT")
        totals.append(_further(name, totals[-1], "whiten", "whiten", needs, {"over": stage.whiten}))
    if stage.clip is not None and not fine:
        totals.append(_further(name, totals[-1], "clip", "clip_advantages", (), {"bound": stage.clip}))
    broadcast = op(name, "broadcast.advantage_RT", "broadcast", ("advantage_R", "trained_RT"), ("advantage_RT",))
    return [*levels, *totals, broadcast, *(_of_tokens(name, stage, [broadcast, *fine], keys) if fine else [])]


def _of_tokens(name: str, stage: Stage, levels: Iterable[UnboundNode], keys: tuple[str, ...]) -> Iterator[UnboundNode]:
    """Draft the sum of levels that credit tokens, and what is done to it as a whole."""
    total = _sum_of_tokens(name, levels, keys)
    yield total
    if stage.whiten != "none":
        total = _further(name, total, "whiten", "whiten_tokens", ("failed_R", "trained_RT"), {})
        yield total
    if stage.clip is not None:
        yield _further(name, total, "clip", "clip_token_advantages", (), {"bound": stage.clip})


def _sum_of_tokens(name: str, levels: Iterable[UnboundNode], keys: tuple[str, ...]) -> UnboundNode:
    """Draft the sum of levels that credit tokens, and of what rows have in common."""
    summed = (("*advantage_RT", "advantage_RT", level.id) for level in levels)
    return op(name, "sum.advantage_RT", "sum_token_advantages", ("trained_RT", *summed), ("advantage_RT",), keys=keys)


def _further(
    name: str, before: UnboundNode, node: str, function: str, needs: tuple[str, ...], params: Mapping[str, Any]
) -> UnboundNode:
    """Draft what is done to the advantage as a whole; it is then the one that others ask for."""
    keys, signal = (f"stages.{name}.advantage.{node}",), before.outputs[0]
    taken = (signal, signal, before.id)
    return op(name, f"{node}.{signal}", function, (taken, *needs), (signal,), params=params, keys=keys)


def _continued(needs: Iterable[Take], before: str) -> Iterator[Take]:
    """Let a level compare the credit of the level before it in place of its own column."""
    for parameter, signal, source in needs:
        yield (parameter, "advantage_R", before) if parameter == "value_R" else (parameter, signal, source)


def _token_level(level: UnboundNode, spec: Component) -> UnboundNode:
    """Let a level compare tokens: the same parameters, and the extent of each row in addition to its columns."""
    assert isinstance(spec, Advantage), "the reader fills the slot `advantage` with such"
    needs = tuple(need for need in level.needs if need[0] in {"value_R", "group_R", "failed_R"})
    more = tuple((signal, signal, "") for signal in ("attend_RT", "trained_RT"))
    params = {key: value for key, value in level.params.items() if key in spec.token_params}
    tokens = replace(
        level,
        slot="compiler",
        type=spec.over_tokens.rpartition(":")[2],
        spec=None,
        impl=spec.over_tokens,
        params=params,
    )
    return replace(tokens, needs=(*needs, *more), outputs=("advantage_RT",))

"""The nodes of credit: levels of advantage, and what makes one advantage of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from recipec.component import Component
from recipec.lowering.drafts import UnboundNode, level_node, op
from recipec.spec.advantage import Advantage
from recipec.spec.recipe import Stage


def draft_credit(name: str, stage: Stage) -> list[UnboundNode]:
    """Draft the levels of credit and what makes one credit of them.

    ``sum`` adds them; ``sequential`` hands the credit so far to the next level, in the order of the recipe;
    ``per_token`` compares the tokens of a group in place of its rows, and needs no broadcast.
    Levels that credit tokens are added to what their rows have in common.
    """
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
        return [*levels, _sum_of_tokens(name, fine, keys)]
    total = op(name, "sum.advantage_R", "sum_advantages", (), ("advantage_R",), keys=keys)
    totals = [replace(total, needs=tuple(("*advantage_R", "advantage_R", level.id) for level in last))]
    if stage.whiten != "none":
        needs = ("failed_R", "trained_RT")
        totals.append(_further(name, totals[-1], "whiten", "whiten", needs, {"over": stage.whiten}))
    if stage.clip is not None:
        totals.append(_further(name, totals[-1], "clip", "clip_advantages", (), {"bound": stage.clip}))
    spread = op(name, "broadcast.advantage_RT", "broadcast", ("advantage_R", "trained_RT"), ("advantage_RT",))
    return [*levels, *totals, spread, *([_sum_of_tokens(name, [spread, *fine], keys)] if fine else [])]


def _sum_of_tokens(name: str, levels: Iterable[UnboundNode], keys: tuple[str, ...]) -> UnboundNode:
    """Draft the sum of levels that credit tokens, and of what rows have in common."""
    total = op(name, "sum.advantage_RT", "sum_token_advantages", ("trained_RT",), ("advantage_RT",), keys=keys)
    more = (("*advantage_RT", "advantage_RT", level.id) for level in levels)
    return replace(total, needs=(*total.needs, *more))


def _further(
    name: str, before: UnboundNode, node: str, function: str, needs: tuple[str, ...], params: Mapping[str, Any]
) -> UnboundNode:
    """Draft what is done to the advantage as a whole; it is then the one that others ask for."""
    keys = (f"stages.{name}.advantage.{node}",)
    made = op(name, f"{node}.advantage_R", function, needs, ("advantage_R",), params=params, keys=keys)
    return replace(made, needs=(("advantage_R", "advantage_R", before.id), *made.needs))


def _continued(needs: Iterable[tuple[str, str, str]], before: str) -> Iterator[tuple[str, str, str]]:
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

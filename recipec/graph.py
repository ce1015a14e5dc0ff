"""The compiled recipe: immutable nodes, loops with carries, digests.

A stage lowers to ``before -> loop over steps (body, inner loop over updates) -> artifacts``.
Carries are the only back edges: what one turn of a loop hands to the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Value:
    """One signal as one node made it: ``Value("reward_R", "explore/reward.answer")``."""

    signal: str
    node: str


@dataclass(frozen=True, slots=True)
class Input:
    """A value bound to a parameter of the node's function."""

    parameter: str
    value: Value


@dataclass(frozen=True, slots=True)
class Node:
    """One call of one function.

    Example: ``Node("explore/advantage.within", "advantage", "group_relative", "recipec.runtime.advantage:group_relative",
    {"weight": 1.0}, (Input("value_R", Value("reward_R", "explore/sum.reward_R")),), ("advantage_R",), "9f…", ())``.
    """

    id: str
    slot: str
    """The slot it fills, or ``compiler`` for a sum, a broadcast and their like."""
    type: str
    impl: str
    knobs: Mapping[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    digest: str
    """Spec digest: hash of slot, type, knobs and the digests of the inputs."""
    keys: tuple[str, ...] = ()
    """Dotted keys of the recipe that this node consumed."""


@dataclass(frozen=True, slots=True)
class Loop:
    """A repeated body; ``carries`` are the states that cross from one turn to the next."""

    id: str
    over: Literal["steps", "updates", "resamples"]
    body: tuple[Node | Loop, ...]
    carries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removal:
    """Work that was left out because it provably changes nothing."""

    what: str
    why: str
    saves: str


@dataclass(frozen=True, slots=True)
class StageGraph:
    """One stage, lowered."""

    name: str
    kind: Literal["rl", "sft", "dpo"]
    origin: str
    """What ``from:`` names."""
    before: tuple[Node, ...]
    loop: Loop
    artifacts: tuple[str, ...]
    settings: Mapping[str, Any]
    """Policy, hand-over, budget, temperature: what the loop itself reads."""
    digest: str
    removed: tuple[Removal, ...] = ()

    def nodes(self) -> Iterator[Node]:
        """Every node of the stage, in order."""
        yield from self.before
        yield from _walk(self.loop)


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole recipe, compiled."""

    name: str
    seed: int
    stages: tuple[StageGraph, ...]
    evaluate: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    """Outside every digest: it changes speed, not meaning."""
    consumed: Mapping[str, str] = field(default_factory=dict)
    """Dotted key of the recipe -> id of the node, stage or section that read it."""
    format: int = FORMAT

    def stage(self, name: str) -> StageGraph:
        """The stage called ``name``."""
        return next(stage for stage in self.stages if stage.name == name)


def _walk(loop: Loop) -> Iterator[Node]:
    for item in loop.body:
        if isinstance(item, Loop):
            yield from _walk(item)
        else:
            yield item


def digest(*parts: Any) -> str:
    """Hash JSON-able parts to 16 hexadecimal digits.

    >>> digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

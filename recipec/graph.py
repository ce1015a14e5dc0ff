"""The compiled recipe: immutable nodes, loops with carries, digests.

A stage lowers to ``before -> loop over steps (body, inner loop over updates) -> artifacts``.
Carries are the only back edges: what one turn of a loop hands to the next.
The file holds the nouns, their JSON and what tells two graphs apart (``differences``); ``recipec.lowering.grammar`` has
their grammar, ``recipec.graph_drawing`` makes text and Mermaid of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic.json_schema import SkipJsonSchema

from recipec.component import Component, Section

C = TypeVar("C", bound=Component)
FORMAT = 1
"""Enters every digest: what a recipe means."""
FILE_FORMAT = 2
"""Of ``graph.json``: how a graph is written."""
SECTIONS = ("recipe", "evaluate", "machine", "trackers")
"""Readers of keys that belong to no stage."""
BOOKKEEPING = ("save_every", "saves_per_epoch", "keep", "microbatch_tokens", "stop_when")
"""Keys of a budget that change what is stored, how fast it goes or whether it ends, not the weights: in no digest."""


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

    Example: ``Node("explore/sum.advantage_R", "compiler", "sum_advantages", "recipec…compiler_ops:sum_advantages", {},
    (Input("*advantage_R", Value("advantage_R", "explore/advantage.within")),), ("advantage_R",), "9f…")``.
    A parameter that starts with ``*`` takes several inputs, in their order.
    """

    id: str
    slot: str
    """The slot it fills, or ``compiler`` for a sum, a broadcast and their like."""
    type: str
    impl: str
    params: Mapping[str, Any]
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    digest: str
    """Spec digest: hash of slot, type, parameters and the digests of the inputs."""
    keys: tuple[str, ...] = ()
    """Dotted keys of the recipe that this node consumed."""
    parts: tuple[Input, ...] = ()
    """What its implementation is built from: the policy, the environment, the rollout engine, by parameter."""
    decided: Mapping[str, Any] = field(default_factory=dict)
    """Decisions of compiler passes, in addition to its parameters; in no digest."""
    level: str = ""
    """Name of the reward or advantage level that it computes."""
    of_critic: bool = False
    """Whether it belongs to the update of the critic, which has a loss and an optimizer of its own."""
    spec: Annotated[Component | None, SkipJsonSchema()] = field(default=None, compare=False, repr=False)
    """The frozen spec itself; not in ``graph.json``, and none for the compiler's own nodes."""

    @property
    def name(self) -> str:
        """The id without the stage: ``reward.answer``."""
        return self.id.partition("/")[2]


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
    kind: Literal["rl", "sft", "dpo", "rm"]
    origin: str
    """What ``from:`` names."""
    setup: tuple[Node, ...]
    """What computes the stage and changes no meaning: attention and engines; in no digest."""
    before: tuple[Node, ...]
    loop: Loop
    artifacts: tuple[str, ...]
    settings: Mapping[str, Any]
    """Policy, hand-over, budget, temperature: what the loop itself reads."""
    digest: str
    removed: tuple[Removal, ...] = ()

    def nodes(self) -> Iterator[Node]:
        """Every node of the stage that has a meaning, in order."""
        yield from self.before
        yield from _walk(self.loop)

    def node(self, name: str) -> Node | None:
        """The node called ``STAGE/name``, if the stage has it, those of ``setup`` among them."""
        return next((node for node in (*self.setup, *self.nodes()) if node.name == name), None)

    def spec(self, cls: type[C]) -> C | None:
        """The first spec of a class, such as the base class of a slot; None where the stage has no such component."""
        return next((node.spec for node in (*self.setup, *self.nodes()) if isinstance(node.spec, cls)), None)

    def required(self, cls: type[C]) -> C:
        """The spec of a class of which every stage has one."""
        spec = self.spec(cls)
        assert spec is not None, f"{self.name} has no {cls.slot}"
        return spec

    def params(self, slot: str) -> Mapping[str, Any]:
        """The parameters of the first component of a slot; empty where the stage has none."""
        return next((node.params for node in self.nodes() if node.slot == slot), {})


@dataclass(frozen=True, slots=True)
class EvaluationSpecs:
    """The frozen specs of one evaluation, those it takes from a stage included; ``Graph.evaluate`` has their JSON."""

    data: Component
    rewards: Mapping[str, Component]
    environment: Component | None
    knowledge: Component | None
    sampling: Section


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
    evaluations: Annotated[Mapping[str, EvaluationSpecs], SkipJsonSchema()] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Specs by the names of ``evaluate``; not in ``graph.json``."""
    trackers: Annotated[Mapping[str, Component], SkipJsonSchema()] = field(
        default_factory=dict, compare=False, repr=False
    )
    """What gets the metrics, by name; not in ``graph.json``, since it changes nothing that is computed."""
    format: int = FILE_FORMAT

    def stage(self, name: str) -> StageGraph:
        """The stage called ``name``."""
        return next(stage for stage in self.stages if stage.name == name)


def _walk(loop: Loop) -> Iterator[Node]:
    for item in loop.body:
        if isinstance(item, Loop):
            yield from _walk(item)
        else:
            yield item


class OtherFormatError(ValueError):
    """A ``graph.json`` of another version."""


def digest(*parts: Any) -> str:
    """Hash JSON-able parts to 16 hexadecimal digits.

    >>> digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def to_json(graph: Graph) -> str:
    """Write a graph as JSON; equal graphs give equal bytes."""
    return json.dumps(_plain(graph), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return the JSON form: dataclasses as mappings, without the fields that hold specs."""
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.compare}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def from_json(text: str) -> Graph:
    """Read what ``to_json`` wrote.

    Raises:
        OtherFormatError: another version of recipec wrote it.
        ValueError: the text is not JSON.
        KeyError, TypeError: it is not a graph.
    """
    data = json.loads(text)
    if data["format"] != FILE_FORMAT:
        raise OtherFormatError(f"graph format {data['format']}; this version reads {FILE_FORMAT}")
    return Graph(**{**data, "stages": tuple(_stage(stage) for stage in data["stages"])})


def _stage(data: Mapping[str, Any]) -> StageGraph:
    loop = _item(data["loop"])
    if not isinstance(loop, Loop):
        raise TypeError("a stage's `loop` is a single node")
    return StageGraph(
        **{
            **data,
            "setup": tuple(_item(node) for node in data["setup"]),
            "before": tuple(_item(node) for node in data["before"]),
            "loop": loop,
            "artifacts": tuple(data["artifacts"]),
            "removed": tuple(Removal(**removal) for removal in data["removed"]),
        }
    )


def _item(data: Mapping[str, Any]) -> Node | Loop:
    if "over" in data:
        body, carries = tuple(_item(item) for item in data["body"]), tuple(data["carries"])
        return Loop(data["id"], data["over"], body, carries)
    inputs, parts = (
        tuple(Input(column["parameter"], Value(**column["value"])) for column in data[key])
        for key in ("inputs", "parts")
    )
    return Node(
        **{**data, "inputs": inputs, "parts": parts, "outputs": tuple(data["outputs"]), "keys": tuple(data["keys"])}
    )


def is_read(graph: Graph, key: str) -> bool:
    """Whether a dotted key, or a mapping that contains it, was consumed."""
    parts = key.split(".")
    return any(".".join(parts[:end]) in graph.consumed for end in range(len(parts), 0, -1))


def differences(before: Graph, after: Graph) -> list[str]:
    """Return the dotted keys in which two graphs differ in meaning; empty if they mean the same."""
    old, new = {s.name: s for s in before.stages}, {s.name: s for s in after.stages}
    keys = ["seed"] if before.seed != after.seed else []
    keys += [f"stages.{name}" for name in [*old, *new] if name not in old or name not in new]
    changed = [name for name in new if name in old and old[name].digest != new[name].digest]
    for name in changed:
        was, now = _said(old[name]), _said(new[name])
        keys += [key for key in _changed(was, now) if in_recipe(before, key) or in_recipe(after, key)]
    return list(dict.fromkeys(keys)) or [f"stages.{name}" for name in changed]


def in_recipe(graph: Graph, key: str) -> bool:
    """Whether the recipe itself has the key: an inherited policy is changed in the stage that defines it."""
    return is_read(graph, key) or any(read.startswith(f"{key}.") for read in graph.consumed)


def settings_of(stage: StageGraph) -> dict[str, Any]:
    """Map the dotted key of every setting that the results of a stage depend on to its value, defaults included."""
    by_prefix = ((prefix, flat(params)) for prefix, params in _said(stage).items())
    return {f"{prefix}.{key}": value for prefix, flat in by_prefix for key, value in flat.items()}


def _said(stage: StageGraph) -> dict[str, Mapping[str, Any]]:
    """Map the prefix of each component to its parameters; what the compiler made says nothing of its own."""
    prefix = f"stages.{stage.name}"
    params: dict[str, Mapping[str, Any]] = {
        prefix: {key: stage.settings[key] for key in ("kind", "from", "adapter")},
        f"{prefix}.budget": {k: v for k, v in stage.settings["budget"].items() if k not in BOOKKEEPING},
    }
    for node in stage.nodes():
        if node.slot != "compiler" and node.name not in {"old", "values"}:
            params[f"{prefix}.{node.name}"] = {"type": node.type, **node.params}
    return params


def _changed(was: Mapping[str, Mapping[str, Any]], now: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for prefix in dict.fromkeys([*was, *now]):
        if prefix not in was or prefix not in now:
            yield prefix
            continue
        old, new = flat(was[prefix]), flat(now[prefix])
        differ = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
        yield from (f"{prefix}.{key}" for key in (["type"] if "type" in differ else differ))


def flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Map dotted keys to the values of nested mappings."""
    values: dict[str, Any] = {}
    for key, value in params.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return values

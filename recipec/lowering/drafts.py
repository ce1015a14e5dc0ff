"""Nodes before they are bound: what each needs and makes, and how components and functions become one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from recipec.component import Component, Need, Section, is_origin, texts
from recipec.signals import SIGNALS, reward_level
from recipec.spec.critic import Critic
from recipec.spec.reference import Reference
from recipec.spec.reward import Reward

_OBJECTIVE = "recipec.runtime.objective"
Place = Literal["before", "steps", "updates"]
Take = tuple[str, str, str]
"""Parameter, signal, and the id of the node it must come from (empty: whoever publishes the signal)."""
SHAPE = ("normalise", "shift", "clip")
"""Parameters of a reward that are read with its level, and applied to what the sum takes of it."""


@dataclass(frozen=True, slots=True)
class UnboundNode:
    """A node that is not bound yet.

    Example: ``UnboundNode("explore/broadcast.advantage_RT", "compiler", "broadcast",
    "recipec…compiler_ops:broadcast", {},
    (("advantage_R", "advantage_R", ""), ("trained_RT", "trained_RT", "")), ("advantage_RT",))``.
    """

    id: str
    slot: str
    type: str
    impl: str
    params: Mapping[str, Any]
    needs: tuple[Take, ...]
    outputs: tuple[str, ...]
    keys: tuple[str, ...] = ()
    place: Place = "steps"
    publishes: bool = True
    """Whether others may ask for its outputs by name; a level's own output is only for the sum."""
    artifacts: tuple[tuple[str, str], ...] = ()
    """Stage and artifact that the node reads."""
    spec: Component | None = None
    uses: tuple[str, ...] = ()
    """Parts of the stage that its implementation is built from."""
    level: str = ""
    of_critic: bool = False

    def bound(self, drafts: Mapping[str, UnboundNode]) -> Iterator[Take]:
        """Yield parameter, signal and the id of the node that makes it, for every column it takes."""
        for parameter, signal, source in self.needs:
            if SIGNALS[signal].kind in {"column", "scalar"}:
                yield parameter, signal, source or provider_of(signal, drafts)

    def sources(self, drafts: Mapping[str, UnboundNode]) -> tuple[str, ...]:
        """Ids of the nodes it waits for, those of features and of facts too."""
        ids = [source or provider_of(signal, drafts) for _, signal, source in self.needs]
        return tuple(dict.fromkeys(ids))


def provider_of(signal: str, drafts: Mapping[str, UnboundNode]) -> str:
    """Return the id of the node that others get a signal from."""
    providers = [draft.id for draft in drafts.values() if draft.publishes and signal in draft.outputs]
    assert providers, f"nothing provides `{signal}`: the wiring checks must refuse this recipe"
    return providers[-1]


def dump(section: Section) -> dict[str, Any]:
    """Return a section as JSON data with every default written out."""
    return section.model_dump(mode="json", by_alias=True)


def keys_of(value: Any, prefix: str) -> Iterator[str]:
    """Yield the dotted key of every parameter below ``prefix``, given or not.

    >>> from recipec.spec.loss import Dpo
    >>> list(keys_of(Dpo(), "stages.align.loss"))[:2]
    ['stages.align.loss.type', 'stages.align.loss.beta']
    """
    if isinstance(value, Section):
        for name, info in type(value).model_fields.items():
            yield from keys_of(getattr(value, name), f"{prefix}.{info.alias or name}")
    elif isinstance(value, dict) and any(isinstance(item, Section) for item in value.values()):
        for name, item in value.items():
            yield from keys_of(item, f"{prefix}.{name}")
    else:
        yield prefix


def component_node(name: str, slot: str, spec: Component, *, keys: Sequence[str]) -> UnboundNode:
    """Draft the node of a component."""
    needs = list(spec.requires())
    hidden = tuple(f"stages.{name}.{slot}.{param}" for param in spec.lowered if param not in SHAPE)
    columns = {need.parameter: need for need in needs if "." not in need.signal}
    return UnboundNode(
        id=f"{name}/{slot}",
        slot=slot.partition(".")[0],
        type=spec.type_name,
        impl=spec.impl,
        params={key: value for key, value in dump(spec).items() if key != "type"},
        needs=tuple((need.parameter, need.signal, "") for need in columns.values()),
        outputs=spec.provides(),
        keys=tuple(key for key in keys if key not in hidden),
        artifacts=tuple(_artifacts(spec, needs)),
        spec=spec,
        uses=spec.uses,
    )


def _artifacts(spec: Component, needs: Sequence[Need]) -> Iterator[tuple[str, str]]:
    for need in needs:
        stage, dot, artifact = need.signal.rpartition(".")
        if dot and not reward_level(need.signal):
            yield stage, artifact
    if isinstance(spec, Reference | Reward | Critic):
        yield from ((text, "policy") for _, info, text in texts(spec) if is_origin(info))


def level_node(name: str, slot: str, level: str, spec: Component) -> UnboundNode:
    """Draft the node of a level: one of several components of a slot."""
    keys = tuple(keys_of(spec, f"stages.{name}.{slot}.{level}"))
    draft = component_node(name, f"{slot}.{level}", spec, keys=keys)
    own = tuple(signal for signal in draft.outputs if signal not in {"score_R", "return_R"})  # see `_episodes`
    named = [(need.parameter, reward_level(need.signal)) for need in spec.requires() if reward_level(need.signal)]
    needs = (*((parameter, "reward_R", f"{name}/reward.{other}") for parameter, other in named), *draft.needs)
    return replace(draft, outputs=own, needs=needs, publishes=slot != "advantage", level=level)


def op(
    name: str,
    node: str,
    function: str,
    needs: Iterable[str | Take],
    outputs: tuple[str, ...],
    *,
    params: Mapping[str, Any] | None = None,
    keys: tuple[str, ...] = (),
) -> UnboundNode:
    """Draft a node of the compiler, which calls ``[MODULE:]FUNCTION`` of the objectives.

    A need that is a text is a signal by its own name.
    """
    module, _, called = function.rpartition(":")
    return UnboundNode(
        f"{name}/{node}",
        "compiler",
        called,
        f"{_OBJECTIVE}.{module or 'compiler_ops'}:{called}",
        params or {},
        tuple((need, need, "") if isinstance(need, str) else need for need in needs),
        outputs,
        keys,
    )

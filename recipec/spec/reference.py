"""What the policy is held against."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, OriginRef, component, param

_ROWS = ("tokens_RT", "attend_RT", "trained_RT")


class Reference(Component):
    """Base class of reference models."""

    slot: ClassVar[str] = "reference"


@component(
    "reference",
    requires=_ROWS,
    provides=("ref_logprob_RT",),
    impl="recipec.runtime.objective.reference:Frozen",
    state=True,
    uses=("policy",),
)
class Frozen(Reference):
    """The policy as it entered the stage; the compiler picks the cheapest sound way to keep it.

    References:
        Rafailov et al., `DPO <https://arxiv.org/abs/2305.18290>`_, 2023.
    """

    type: Literal["frozen"] = "frozen"
    from_: OriginRef | None = param(None, "Another model: a stage, a directory, the hub.", alias="from")


@component(
    "reference",
    requires=_ROWS,
    provides=("ref_logprob_RT",),
    impl="recipec.runtime.objective.reference:Lagged",
    state=True,
    uses=("policy",),
)
class Lagged(Reference):
    """A copy of the policy, refreshed every so many updates.

    References:
        `GraphIQ-VLM <https://github.com/SwapniL-afk-now/GraphIQ-VLM>`_, 2025: a copy of the adapter every 10 updates.
    """

    type: Literal["lagged"] = "lagged"
    sync_every_updates: int = param(10, "Copy the policy after this many updates.", unit="updates", ge=1)

"""Reference models."""

from typing import ClassVar, Literal

from recipec.component import Component, OriginRef, component, param, when

_ROWS = ("tokens_RT", "attend_RT", "trained_RT")


class Reference(Component):
    """Base class of reference models."""

    slot: ClassVar[str] = "reference"

    def follows(self) -> int | None:
        """Return after how many updates it copies the policy; ``None`` where it stays as it is."""
        return None

    def other_model(self) -> str | None:
        """Return the origin of another model that it is; ``None`` where it is the policy at an earlier time."""
        return None


@component(
    "reference",
    requires=_ROWS,
    provides=("ref_logprob_RT", when("from_", "teacher")),
    impl="recipec.runtime.objective.reference:Frozen",
    state=True,
    uses=("policy",),
)
class Frozen(Reference):
    """The policy at the start of the stage; the compiler selects the cheapest exact way to keep it.

    References:
        Rafailov et al., `DPO <https://arxiv.org/abs/2305.18290>`_, 2023.
    """

    type: Literal["frozen"] = "frozen"
    from_: OriginRef | None = param(None, "Use another model: a stage, a directory or a Hub model.", alias="from")

    def other_model(self) -> str | None:
        """Return `from`."""
        return self.from_


@component(
    "reference",
    requires=_ROWS,
    provides=("ref_logprob_RT",),
    impl="recipec.runtime.objective.reference:Lagged",
    state=True,
    uses=("policy",),
)
class Lagged(Reference):
    """A copy of the policy that is refreshed at a fixed number of updates.

    References:
        `GraphIQ-VLM <https://github.com/SwapniL-afk-now/GraphIQ-VLM>`_, 2025: a copy of the adapter every 10 updates.
    """

    type: Literal["lagged"] = "lagged"
    sync_every_updates: int = param(10, "Number of updates between copies of the policy.", unit="updates", ge=1)

    def follows(self) -> int:
        """Return `sync_every_updates`."""
        return self.sync_every_updates

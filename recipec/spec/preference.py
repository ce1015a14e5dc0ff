"""How preference pairs are made."""

from __future__ import annotations

from typing import Literal

from recipec.component import Component, SignalRef, component, knob


@component(
    "preference",
    requires=("rollouts",),
    provides=("prompt_P", "chosen_P", "rejected_P"),
    impl="recipec.runtime.preference:BestVsWorst",
    state=True,
)
class BestVsWorst(Component):
    """Pair the best with the worst row of each prompt of an earlier stage's rollouts.

    References:
        Yuan et al., `Self-Rewarding Language Models <https://arxiv.org/abs/2401.10020>`_, 2024.
    """

    type: Literal["best_vs_worst"] = "best_vs_worst"
    rollouts: SignalRef = knob(..., "Artifact to read, as `STAGE.rollouts`.")
    margin: float = knob(0.0, "Smallest difference in reward of a pair.", unit="reward units", ge=0)
    max_pairs: int | None = knob(None, "Keep at most this many pairs, the widest margins first.", unit="pairs", ge=1)


@component("preference", requires=("prompt_P", "knowledge"), provides=("chosen_P", "rejected_P"))
class KgRag(Component):
    """Prefer the answer written with retrieved facts over the one written without.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025.
    """

    type: Literal["kg_rag"] = "kg_rag"
    top_k: int = knob(1, "Entities looked up.", ge=1)
    hops: int = knob(1, "Steps from an entity.", ge=1)


@component("preference", requires=("prompt_P", "knowledge"), provides=("chosen_P", "rejected_P"))
class KgRank(Component):
    """Prefer the answer that the graph supports best over the one it supports least.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025.
    """

    type: Literal["kg_rank"] = "kg_rank"
    margin: float = knob(0.0, "Smallest difference in support of a pair.", ge=0)

"""How preference pairs are made."""

from __future__ import annotations

from typing import ClassVar, Literal

from recipec.component import Component, PathRef, SignalRef, component, param


class Preference(Component):
    """Base class of preferences."""

    slot: ClassVar[str] = "preference"


@component(
    "preference",
    requires=("rollouts",),
    provides=("prompt_P", "chosen_P", "rejected_P"),
    impl="recipec.runtime.preference.best_vs_worst:BestVsWorst",
    state=True,
    uses=("policy",),
)
class BestVsWorst(Preference):
    """Pair the best with the worst row of each prompt of an earlier stage's rollouts.

    References:
        Yuan et al., `Self-Rewarding Language Models <https://arxiv.org/abs/2401.10020>`_, 2024.
    """

    type: Literal["best_vs_worst"] = "best_vs_worst"
    rollouts: SignalRef = param(..., "Artifact to read, as `STAGE.rollouts`.")
    margin: float = param(0.0, "Smallest difference in reward of a pair.", unit="reward units", ge=0)
    max_pairs: int | None = param(None, "Keep at most this many pairs, the widest margins first.", unit="pairs", ge=1)


class Facts(Preference):
    """What a graph of facts decides, and which pairs are left out."""

    topic: str | None = param(
        None, "Column that names what the question is about; the question's own text is searched if absent."
    )
    supported: float = param(1.0, "Value of a claim that the graph states.", unit="points")
    contradicted: float = param(-1.0, "Value of a claim that the graph speaks against.", unit="points")
    unknown: float = param(0.0, "Value of a claim of which the graph says nothing.", unit="points")
    average: Literal["sum", "mean"] = param("sum", "An answer's score is the sum over its claims, or their mean.")
    label: str | None = param(None, "Column whose text both answers must contain, as whole words.")
    tag: str | None = param(None, "Look for the label in the last `<TAG>…</TAG>` alone.")
    max_length_ratio: float | None = param(
        None, "The longer answer has at most this many times the tokens of the other.", unit="factor", ge=1
    )
    ended: bool = param(False, "Both answers must have ended by themselves, not at the longest length.")
    max_pairs: int | None = param(None, "Keep at most this many pairs, the widest margins first.", unit="pairs", ge=1)


@component(
    "preference",
    requires=("prompt_P", "knowledge", "sampling"),
    provides=("chosen_P", "rejected_P"),
    impl="recipec.runtime.preference.kg_pairs:KgRag",
    state=True,
    uses=("policy", "knowledge", "sampler"),
)
class KgRag(Facts):
    r"""Prefer the answer written with retrieved facts over the one written without.

    Entities of the question are looked up in the graph, the triples around them are written out and put before the
    question, and the policy answers both ways. Both answers are trained under the question alone, so what was
    retrieved goes into the weights. Published: that a system built on a knowledge graph stands in for the expert. How
    its pairs are made was not; this is our reading.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025: a knowledge graph as proxy for expert preference.
        Lewis et al., `Retrieval-Augmented Generation <https://arxiv.org/abs/2005.11401>`_, 2020.
    """

    type: Literal["kg_rag"] = "kg_rag"
    top_k: int = param(1, "Entities of the question that are looked up.", unit="entities", ge=1)
    hops: int = param(1, "Steps from an entity.", unit="steps", ge=1, le=8)
    relations: tuple[str, ...] = param((), "Relations that are followed; all if empty.")
    direction: Literal["out", "in", "both"] = param(
        "out", "Facts that begin at what is looked up, those that end there, or both."
    )
    template: PathRef | None = param(
        None, "Jinja template of the question with its facts: `question`, `facts`, `entities`."
    )
    max_facts: int = param(
        32, "Most triples put before a question, the nearest first.", unit="triples", ge=1, le=10_000
    )
    max_fact_tokens: int = param(512, "Longest text of facts put before a question.", unit="tokens", ge=1)
    min_triples: int = param(1, "Fewest triples a pair rests on.", unit="triples", ge=1)
    margin: float | None = param(
        None, "Smallest difference between the scores of the two answers; not compared if absent.", unit="points"
    )


@component(
    "preference",
    requires=("prompt_P", "knowledge", "sampling"),
    provides=("chosen_P", "rejected_P"),
    impl="recipec.runtime.preference.kg_pairs:KgRank",
    state=True,
    uses=("policy", "knowledge", "sampler"),
)
class KgRank(Facts):
    r"""Prefer the answer that the graph supports best over the one it supports least.

    The policy answers each prompt several times; the claims of each answer are held against the graph:

    .. math:: s = \sum_{claims} v,\quad v \in \{v_{supported}, v_{contradicted}, v_{unknown}\}

    The answer of the highest score is paired with that of the lowest; among equals the first sampled is taken.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025: a knowledge graph as proxy for expert preference.
        Tian et al., `Fine-tuning Language Models for Factuality <https://arxiv.org/abs/2311.08401>`_, 2023: answers
        ranked by the share of their claims that a source supports.
    """

    type: Literal["kg_rank"] = "kg_rank"
    top_k: int = param(1, "Entities that the question is taken to be about.", unit="entities", ge=1)
    margin: float = param(0.0, "Smallest difference in score of a pair.", unit="points", ge=0)
    min_claims: int = param(
        1, "Fewest claims of a pair, both answers together, of which the graph says something.", unit="claims", ge=0
    )

"""How preference pairs are made."""

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
    """Pair the best and the worst rollout of each prompt from an earlier stage.

    References:
        Yuan et al., `Self-Rewarding Language Models <https://arxiv.org/abs/2401.10020>`_, 2024.
    """

    type: Literal["best_vs_worst"] = "best_vs_worst"
    rollouts: SignalRef = param(..., "Rollouts to read, as `STAGE.rollouts`.")
    margin: float = param(
        0.0, "Minimum difference in reward between the two rows of a pair.", unit="reward units", ge=0
    )
    max_pairs: int | None = param(None, "Maximum number of pairs, largest margins first.", unit="pairs", ge=1)


class Facts(Preference):
    """Scores of claims under the knowledge graph, and filters of pairs."""

    topic: str | None = param(None, "Column with the topic; if omitted, the question's text is searched for entities.")
    supported: float = param(1.0, "Score of a claim that the knowledge graph supports.", unit="points")
    contradicted: float = param(-1.0, "Score of a claim that the knowledge graph contradicts.", unit="points")
    unknown: float = param(0.0, "Score of a claim that it neither supports nor contradicts.", unit="points")
    average: Literal["sum", "mean"] = param("sum", "Score of an answer: sum or mean over its claims.")
    label: str | None = param(None, "Column with a text that both answers must contain as whole words.")
    tag: str | None = param(None, "Search the label only inside the last `<TAG>…</TAG>`.")
    max_length_ratio: float | None = param(
        None, "Maximum ratio of the lengths of the two answers in tokens, longer over shorter.", unit="factor", ge=1
    )
    ended: bool = param(False, "Keep only pairs in which no answer was cut off at the maximum length.")
    max_pairs: int | None = param(None, "Maximum number of pairs, largest margins first.", unit="pairs", ge=1)


@component(
    "preference",
    requires=("prompt_P", "knowledge", "sampling"),
    provides=("chosen_P", "rejected_P"),
    impl="recipec.runtime.preference.kg_pairs:KgRag",
    state=True,
    uses=("policy", "knowledge", "sampler"),
)
class KgRag(Facts):
    r"""Prefer the answer generated with retrieved triples over the answer generated without them.

    Entities of the question are looked up in the knowledge graph, the triples around them are put before the question
    as text, and the policy answers with and without them. Both answers are trained on the question alone, so that the
    retrieved knowledge is trained into the weights. The paper uses a knowledge graph in place of expert preferences,
    but does not say how its pairs are made; this is our interpretation.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025: a knowledge graph in place of expert preferences.
        Lewis et al., `Retrieval-Augmented Generation <https://arxiv.org/abs/2005.11401>`_, 2020.
    """

    type: Literal["kg_rag"] = "kg_rag"
    top_k: int = param(1, "Number of entities of the question to look up.", unit="entities", ge=1)
    hops: int = param(1, "Maximum number of relations between an entity and a triple.", unit="steps", ge=1, le=8)
    relations: tuple[str, ...] = param((), "Relations to follow; all if empty.")
    direction: Literal["out", "in", "both"] = param(
        "out", "Follow triples that have the entity as subject (`out`), as object (`in`), or both."
    )
    template: PathRef | None = param(
        None, "Jinja file that renders the question with its triples from `question`, `facts` and `entities`."
    )
    max_facts: int = param(
        32, "Maximum number of triples put before a question, nearest first.", unit="triples", ge=1, le=10_000
    )
    max_fact_tokens: int = param(512, "Maximum length of the triples put before a question.", unit="tokens", ge=1)
    min_triples: int = param(1, "Minimum number of retrieved triples of a pair.", unit="triples", ge=1)
    margin: float | None = param(
        None,
        "Minimum difference in score between the two answers of a pair; scores are not compared if omitted.",
        unit="points",
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
    r"""Prefer the answer with the best score under the knowledge graph over the one with the worst.

    The policy answers each prompt several times; the claims of each answer are checked against the graph:

    .. math:: s = \sum_{claims} v,\quad v \in \{v_{supported}, v_{contradicted}, v_{unknown}\}

    The answer with the highest score is paired with the one with the lowest; ties go to the answer sampled first.

    References:
        `DermIQ-VLM <https://arxiv.org/abs/2510.01236>`_, 2025: a knowledge graph in place of expert preferences.
        Tian et al., `Fine-tuning Language Models for Factuality <https://arxiv.org/abs/2311.08401>`_, 2023: answers
        ranked by the share of their claims that a source supports.
    """

    type: Literal["kg_rank"] = "kg_rank"
    top_k: int = param(1, "Number of entities that the question is assumed to be about.", unit="entities", ge=1)
    margin: float = param(0.0, "Minimum difference in score between the two answers of a pair.", unit="points", ge=0)
    min_claims: int = param(
        1,
        "Minimum number of claims in both answers together that the graph supports or contradicts.",
        unit="claims",
        ge=0,
    )

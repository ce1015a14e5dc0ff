"""Compare the claims of a text with a knowledge graph: counts, scores, and evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import preference as errors
from recipec.diagnostics.errors.reward import no_answer_column
from recipec.diagnostics.model import RecipeError
from recipec.runtime.batch import question
from recipec.runtime.knowledge.claims import claims
from recipec.runtime.knowledge.verification import check
from recipec.runtime.protocols import Part

if TYPE_CHECKING:
    from recipec.runtime.batch import Task
    from recipec.runtime.context import StageContext
    from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph
    from recipec.runtime.knowledge.statements import Claim, Triple
    from recipec.spec.preference import KgRag, KgRank
    from recipec.spec.reward import KgConsistency as Spec

VERDICTS = ("supported", "contradicted", "unknown")


@dataclass(frozen=True, slots=True)
class Judged:
    """The claims of one text, each with its verdict and the triples behind it.

    Example: ``judge(knowledge, "It itches.", ["psoriasis"]).count("supported")``.
    """

    claims: tuple[Mapping[str, Any], ...]

    def count(self, verdict: str) -> int:
        """Number of claims with a verdict."""
        return sum(claim["verdict"] == verdict for claim in self.claims)

    @property
    def known(self) -> int:
        """Number of claims that the graph supports or contradicts."""
        return self.count("supported") + self.count("contradicted")

    def score(self, values: KgRag | KgRank | Spec) -> float:
        """Add or average the values of the claims, in points; 0 without a claim."""
        total = sum(self.count(verdict) * float(getattr(values, verdict)) for verdict in VERDICTS)
        return total / max(1, len(self.claims)) if values.average == "mean" else total

    def evidence(self) -> dict[str, Any]:
        """Return counts and claims as they are written to an artifact."""
        return {**{verdict: self.count(verdict) for verdict in VERDICTS}, "claims": list(self.claims)}


def judge(knowledge: KnowledgeGraph, text: str, topic: Sequence[str]) -> Judged:
    """Extract and check the claims of ``text``; the entities of ``topic`` are the first subject."""
    return Judged(tuple(_claimed(knowledge, claim) for claim in claims(knowledge, text, topic)))


def _claimed(knowledge: KnowledgeGraph, claim: Claim) -> dict[str, Any]:
    checked = check(knowledge, claim)
    return {
        "says": ("not: " if claim.negated else "") + knowledge.verbalize(claim.triple),
        "sentence": claim.sentence,
        "verdict": checked.verdict,
        "triples": [written(triple) for triple in checked.evidence],
    }


def written(triple: Triple) -> list[str]:
    """Return a triple as it is written to an artifact: subject, relation, object, source."""
    return [triple.subject, triple.relation, triple.object, triple.source]


def topic(knowledge: KnowledgeGraph, task: Task, column: str | None, top_k: int) -> list[str]:
    """Return the entities that a task is about, the likeliest first, each once.

    Raises:
        RecipeError: RC741, the column of the topic is missing or has no text.
    """
    if column is None:
        return _entities(knowledge, question(task), top_k)
    value = task.columns.get(column)
    listed = list(value) if isinstance(value, list | tuple) else [value]
    names = [name for name in listed if isinstance(name, str) and name.strip()]
    if not names or len(names) < len(listed):
        raise RecipeError(no_answer_column(task.id, task.place, column, task.columns, "topic"))
    return list(dict.fromkeys(e for name in names for e in _entities(knowledge, name, top_k)))


def _entities(knowledge: KnowledgeGraph, text: str, top_k: int) -> list[str]:
    return list(dict.fromkeys(link.entity for link in knowledge.link(text, top_k)))


class KgConsistency(Part):
    """Reward claims that the graph supports; see :class:`recipec.spec.reward.KgConsistency`."""

    def __init__(self, spec: Spec, context: StageContext, *, knowledge: KnowledgeGraph | None = None) -> None:  # noqa: ARG002
        """Judge by ``knowledge``.

        Raises:
            RecipeError: RC888, the stage has no knowledge graph.
        """
        if knowledge is None:
            raise RecipeError(errors.no_knowledge_here(f"the reward `{spec.type_name}`"))
        self.spec = spec
        self.knowledge = knowledge

    def __call__(self, prompt_P: Sequence[Task], by_prompt_R: Tensor, text_R: Sequence[str]) -> dict[str, Any]:
        """Return ``reward_R`` in points, and the mean number of claims of a row by verdict.

        Raises:
            RecipeError: RC741, a task lacks the column of its topic.
        """
        prompts = by_prompt_R.tolist()
        about = {p: topic(self.knowledge, prompt_P[p], self.spec.topic, self.spec.top_k) for p in set(prompts)}
        judged = [judge(self.knowledge, text, about[p]) for p, text in zip(prompts, text_R, strict=True)]
        columns: dict[str, Any] = {"reward_R": torch.tensor([self._value(one) for one in judged], dtype=torch.float64)}
        for verdict in VERDICTS:
            columns[f"metric/claims/{verdict}"] = sum(one.count(verdict) for one in judged) / max(1, len(judged))
        return columns

    def _value(self, judged: Judged) -> float:
        if not judged.claims:
            return self.spec.silent
        score, cap = judged.score(self.spec), self.spec.cap
        return score if cap is None else max(-cap, min(cap, score))

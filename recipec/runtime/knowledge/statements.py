"""Plain values of knowledge graphs: triples, links into a text, claims and verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Triple:
    """One fact, by the ids of its parts: IRIs, plain names, or for objects literals in quotes.

    Example: ``Triple("psoriasis", "has symptom", "scaling", "derm.tsv:4")``.
    """

    subject: str
    relation: str
    object: str
    source: str = ""
    """Its place: ``file:line``, or the sentence that states it."""

    @property
    def fact(self) -> tuple[str, str, str]:
        """The triple without its source."""
        return self.subject, self.relation, self.object


@dataclass(frozen=True, slots=True)
class Link:
    """An entity that a text mentions, and where: characters ``start`` to ``end`` of the text.

    ``score`` is 1 for the preferred label, less for synonyms, the cosine for similar text.

    Example: ``Link("HP:0000989", "Pruritus", 7, 15, 1.0)``.
    """

    entity: str
    label: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a sentence about two entities.

    Example: ``Claim(Triple("psoriasis", "has symptom", "fever"), "Psoriasis has no fever.", negated=True)``.
    """

    triple: Triple
    sentence: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of a graph on a claim, with the facts for it; an unknown claim has no facts.

    Example: ``Verdict("supported", (Triple("psoriasis", "has symptom", "scaling"),))``.
    """

    verdict: Literal["supported", "contradicted", "unknown"]
    evidence: tuple[Triple, ...] = ()

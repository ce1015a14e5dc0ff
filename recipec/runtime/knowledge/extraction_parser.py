"""Parse the answers of an extracting model: a line `Entity1, Relation, Entity2` a fact; other lines are ignored."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from recipec.runtime.knowledge.claims import sentences
from recipec.runtime.knowledge.entity_linking import words

LONGEST = 100
"""Longest part of a fact, in characters: anything longer is a sentence, not a name."""
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\(?\d{1,3}[.):])?\s*")
_ECHO = ("entity1", "relation", "entity2")


@dataclass(frozen=True, slots=True)
class Stated:
    """A fact that a model wrote, the line of its answer, and the mean probability of that line's tokens.

    Example: ``Stated("psoriasis", "causes", "itching", 0, 0.93)``.
    """

    subject: str
    relation: str
    object: str
    line: int
    probability: float

    @property
    def folded(self) -> tuple[str, ...]:
        """The fact without case, accents and plurals, to compare samples."""
        return tuple(" ".join(word.text for word in words(part)) for part in (self.subject, self.relation, self.object))


def facts(text: str, *, lower: bool) -> Iterator[tuple[int, tuple[str, str, str]]]:
    r"""Yield the facts of an answer, with the number of their line from 0.

    >>> list(facts("Sure!\n1. Psoriasis, causes, scaling\n- (eczema, has symptom, itching)\na, b", lower=True))
    [(1, ('psoriasis', 'causes', 'scaling')), (2, ('eczema', 'has symptom', 'itching'))]
    """
    for number, line in enumerate(text.split("\n")):
        bare = _BULLET.sub("", line).strip().rstrip(".;")
        if bare[:1] in "([<" and bare[-1:] in ")]>":
            bare = bare[1:-1]
        parts = [" ".join(part.split()).strip("\"'`* ") for part in bare.split(",")]
        if len(parts) != 3 or not all(0 < len(part) <= LONGEST and words(part) for part in parts):
            continue
        if tuple(part.casefold().replace(" ", "") for part in parts) == _ECHO:
            continue
        subject, relation, thing = (part.lower() if lower else part for part in parts)
        yield number, (subject, relation, thing)


def read(
    ids: Sequence[int], logprob: Sequence[float], decode: Callable[[Sequence[int]], str], *, lower: bool
) -> Iterator[Stated]:
    r"""Yield the facts of an answer with the mean probability of their tokens.

    A token belongs to the line in which its text ends; the mean of a line of tokens :math:`t` is
    :math:`\frac1n\sum_t e^{\log p_t}`, dimensionless, under the sampled distribution.
    """
    by_line: dict[int, list[float]] = {}
    for place, value in enumerate(logprob, 1):
        line = decode(ids[:place]).rstrip("\n").count("\n")
        by_line.setdefault(line, []).append(math.exp(value))
    for number, (subject, relation, thing) in facts(decode(ids), lower=lower):
        spent = by_line.get(number, [0.0])
        yield Stated(subject, relation, thing, number, sum(spent) / len(spent))


def sentence_of(document: str, fact: Stated) -> str:
    """Return the sentence with the most words of a fact, at least one of them of an entity.

    >>> sentence_of("Eczema is common. Psoriasis itches.", Stated("psoriasis", "causes", "itching", 0, 1.0))
    'Psoriasis itches.'
    """
    entities = {word.text for part in (fact.subject, fact.object) for word in words(part)}
    relation = {word.text for word in words(fact.relation)} - entities
    best, most = "", (0, 0)
    for sentence in sentences(document):
        spoken = {word.text for word in words(sentence)}
        score = len(spoken & entities), len(spoken & relation)
        if score[0] and score > most:
            best, most = sentence, score
    return best

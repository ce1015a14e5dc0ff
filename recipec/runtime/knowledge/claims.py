"""Extract the claims of a text: sentence by sentence, with the topic carried over and negation found by cue words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from recipec.runtime.knowledge.entity_linking import Word, words
from recipec.runtime.knowledge.statements import Claim, Link, Triple

if TYPE_CHECKING:
    from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph

_LINE = re.compile(r"\n+|\s*;\s+")
_END = re.compile(r"(?<=[.!?。])\s+")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|cf|vs|Dr|etc|approx|ca)|\b[A-Z])\.$")
_CLAUSE = frozenset(["but", "however", "although", "though", "except", "whereas", "while"])
_BEFORE = tuple(
    tuple(cue.split())
    for cue in (
        "no", "not", "never", "without", "lack", "lacking", "absence of", "absent", "deny", "denie", "denied",
        "neither", "nor", "rule out", "ruled out", "free of", "exclude", "excluded", "isn t", "aren t", "doesn t",
        "don t", "didn t", "hasn t", "haven t", "cannot", "can t", "won t", "rather than", "instead of",
    )
)  # fmt: skip
_AFTER = tuple(
    tuple(cue.split())
    for cue in ("is absent", "are absent", "absent", "wa absent", "were absent", "ruled out", "excluded", "is not",
                "are not", "not seen", "not present", "not found", "isn t", "aren t")
)  # fmt: skip
_NOT_NEGATION = tuple(
    tuple(cue.split())
    for cue in ("not only", "no doubt", "not necessarily", "not just", "no change", "cannot rule out")
)
_IS_A = re.compile(
    r"\b(?:is|are|wa|were|be)(?: not)?(?: (?:a|an|the|one|kind|type|form|of))*"
    r"(?: (?!with|without|that|which|in|of|by|from|for|and|or|caus)\w+){0,2}$"
)
_IS_A_WORDS = 24
_CUE_BEGINS = {cue[0] for cues in (_BEFORE, _AFTER, _NOT_NEGATION) for cue in cues}
_PART = re.compile(r" *[:()]")
_SCOPE = 256
"""Words outside of mentions before an entity among which a cue is looked for: long sentences take linear time."""
_REACH = 6
"""Words between an entity and a cue that follows it, at most."""


def sentences(text: str) -> list[str]:
    r"""Split a text into sentences.

    >>> sentences("Dry skin, e.g. xerosis. It itches!\n- No fever")
    ['Dry skin, e.g. xerosis.', 'It itches!', '- No fever']
    """
    parts: list[str] = []
    for line in _LINE.split(text):
        begun = len(parts)
        for part in _END.split(line):
            if len(parts) > begun and _ABBREVIATION.search(parts[-1]):
                parts[-1] = f"{parts[-1]} {part}"
            elif part.strip():
                parts.append(part.strip())
    return parts


def claims(graph: KnowledgeGraph, text: str, topic: Sequence[str] = ()) -> list[Claim]:
    """Return the claims of a text, each once.

    In each sentence one entity is the subject: the topic of the question where the sentence names it, else the first
    that the graph has facts about, else the subject of the sentence before (at first, the topic).  Every other entity
    is an object of a relation that the sentence names and that allows it as an object.  A sentence without such a
    relation is read in favour of its writer: as a fact of the graph where one fits.  "Is a", with at most two words
    before the object, states the class of the subject, where the graph has classes for both.

    References:
        Chapman et al., `A Simple Algorithm for Identifying Negated Findings and Diseases in Discharge Summaries
        <https://doi.org/10.1006/jbin.2001.1029>`_, 2001, the source of the cues and their scopes.
    """
    by_fact: dict[tuple[tuple[str, str, str], bool], Claim] = {}
    carried = list(topic[:1])
    for sentence in sentences(text):
        links = graph.link(sentence)
        subject = _subject(graph, links, topic, carried)
        if subject is None:
            continue
        carried = [subject]
        for claim in _claims(graph, sentence, subject, links):
            by_fact.setdefault((claim.triple.fact, claim.negated), claim)
    return list(by_fact.values())


def _subject(graph: KnowledgeGraph, links: Sequence[Link], topic: Sequence[str], carried: Sequence[str]) -> str | None:
    mentioned = [link.entity for link in links]
    for entity in topic:
        if entity in mentioned:
            return entity
    first = next((entity for entity in mentioned if graph.has_facts(entity)), None)
    return first or next(iter(carried), None)


def _claims(graph: KnowledgeGraph, sentence: str, subject: str, links: Sequence[Link]) -> Iterator[Claim]:
    spelled, begins, ends = words(sentence), [link.start for link in links], [link.end for link in links]
    word_ends = [word.end for word in spelled]
    relation_mentions = [
        mention
        for mention in graph.relation_links(sentence)
        if bisect_right(ends, mention.start) == bisect_left(begins, mention.end)  # no link between, links are in order
    ]
    others, places = [mention.entity for mention in relation_mentions], [mention.start for mention in relation_mentions]
    free = [word for word in spelled if bisect_right(begins, word.start) == bisect_right(ends, word.start)]
    begun = 0
    for place, link in enumerate(links):
        near = others[bisect_left(places, begun) : bisect_left(places, link.start)]
        begun = link.end
        if link.entity == subject:
            continue
        until = bisect_right(word_ends, link.start)
        before = [word.text for word in spelled[max(0, until - _IS_A_WORDS) : until]]
        is_a = _IS_A.search(" ".join(before)) is not None and graph.may_be_classes(subject, link.entity)
        relation = graph.kind if is_a else _relation(graph, subject, link.entity, near, others)
        if relation is not None:
            following = begins[place + 1] if place + 1 < len(links) else len(sentence)
            claimed = Triple(subject, relation, link.entity)
            yield Claim(claimed, sentence, negated(free, sentence, link, following))


def _relation(
    graph: KnowledgeGraph, subject: str, thing: str, near: Sequence[str], others: Sequence[str]
) -> str | None:
    """Choose the relation of a pair.

    In order of preference: a relation that the sentence names immediately before the object and that allows it as
    object, one that it names anywhere, one that the graph has for the pair, the first that allows the object.
    """
    ways = sorted({graph.positive(relation) for relation in graph.relations_into(thing)} - graph.kinds)
    if near:
        return next((relation for relation in near[::-1] if relation in ways), None)
    for relation in others:
        if relation in ways:
            return relation
    own = {triple.relation for triple in graph.facts_about(subject) if thing in graph.ancestors(triple.object)}
    return next((relation for relation in ways if relation in own), next(iter(ways), None))


def negated(free: Sequence[Word], sentence: str, link: Link, following: int) -> bool:
    """Return whether a mention is negated, by a cue before it in its clause or soon after it.

    ``free`` are the words outside of mentions; the next mention begins at ``following``.
    """
    until = bisect_right(free, link.start, key=lambda word: word.end)
    first = max(0, until - _SCOPE)
    cut = next((place for place in range(until, first, -1) if _parts(free[place - 1], sentence, link.start)), first)
    if _cued([word.text for word in free[cut:until]], _BEFORE):
        return True
    first = bisect_left(free, link.end, key=lambda word: word.start)
    near: list[str] = []
    for word in free[first : first + _REACH]:
        if word.start >= following:
            break
        if word.text in _CLAUSE or "," in sentence[link.end : word.start]:
            break
        near.append(word.text)
    return _cued(near, _AFTER)


def _parts(word: Word, sentence: str, until: int) -> bool:
    """Whether a clause ends at a word, so that negation before it does not reach beyond."""
    return word.text in _CLAUSE or _PART.match(sentence, word.end, until) is not None


def _cued(spoken: Sequence[str], cues: Sequence[tuple[str, ...]]) -> bool:
    at, cued = 0, False
    while at < len(spoken):
        if spoken[at] not in _CUE_BEGINS:
            at += 1
            continue
        feint = next((cue for cue in _NOT_NEGATION if tuple(spoken[at : at + len(cue)]) == cue), None)
        if feint is not None:
            at += len(feint)
            continue
        cued |= any(tuple(spoken[at : at + len(cue)]) == cue for cue in cues)
        at += 1
    return cued

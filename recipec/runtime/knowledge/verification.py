"""Check a claim against a knowledge graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recipec.runtime.knowledge.statements import Claim, Triple, Verdict

if TYPE_CHECKING:
    from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph


def check(graph: KnowledgeGraph, claim: Claim) -> Verdict:
    """Return supported, contradicted or unknown; for a negated claim the first two are swapped.

    Supported: the graph has the fact, or one with a more specific object: blisters on the hands are blisters.
    Contradicted: the graph denies the object or a more general one (a relation ``not_...``); or the relation is
    functional or closed, and no listed object is the claimed one, its ancestor or its descendant; or, for a claimed
    class, the entity has a class that is disjoint with it (``owl:disjointWith``).
    """
    supporting = tuple(_supporting(graph, claim.triple))
    opposing = () if supporting else tuple(_opposing(graph, claim.triple))
    if not supporting and not opposing:
        return Verdict("unknown")
    right = bool(supporting) != claim.negated
    return Verdict("supported" if right else "contradicted", supporting or opposing)


def _supporting(graph: KnowledgeGraph, claimed: Triple) -> Iterator[Triple]:
    if claimed.relation in graph.kinds:
        yield from _climb(graph, claimed.subject, claimed.object)
        return
    for triple in graph.facts_about(claimed.subject):
        if triple.relation == claimed.relation and claimed.object in graph.ancestors(triple.object):
            yield triple


def _climb(graph: KnowledgeGraph, entity: str, goal: str) -> list[Triple]:
    """Return the steps from an entity up to a class; empty where the class is not an ancestor."""
    came: dict[str, Triple | None] = {entity: None}
    front = [entity]
    while front and goal not in came:
        steps = [t for one in front for t in graph.facts_about(one) if t.relation in graph.kinds]
        front = []
        for step in steps:
            if step.object not in came:
                came[step.object] = step
                front.append(step.object)
    way: list[Triple] = []
    while goal in came and (last := came[goal]) is not None:
        way.append(last)
        goal = last.subject
    return way[::-1]


def _opposing(graph: KnowledgeGraph, claimed: Triple) -> Iterator[Triple]:
    if claimed.relation in graph.kinds:
        yield from _apart(graph, claimed)
        return
    above = graph.ancestors(claimed.object)
    denying = graph.negative(claimed.relation)
    facts = graph.facts_about(claimed.subject)
    denied = [triple for triple in facts if triple.relation == denying and triple.object in above]
    listed = [triple for triple in facts if triple.relation == claimed.relation]
    if denied:
        yield from denied
    elif claimed.relation in graph.closed | graph.functional and not any(t.object in above for t in listed):
        yield from listed


def _apart(graph: KnowledgeGraph, claimed: Triple) -> Iterator[Triple]:
    goals = graph.ancestors(claimed.object)
    for own in sorted(graph.ancestors(claimed.subject)):
        for other in sorted(graph.disjoint(own) & goals):
            yield from _climb(graph, claimed.subject, own)
            yield Triple(own, "http://www.w3.org/2002/07/owl#disjointWith", other)
            return

"""The knowledge graph of a stage, over a local store or a SPARQL service."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Literal

import pyoxigraph as ox

from recipec.diagnostics.errors import knowledge as errors
from recipec.diagnostics.model import RecipeError
from recipec.runtime.knowledge import sparql_queries
from recipec.runtime.knowledge.entity_linking import Linker, fold, words
from recipec.runtime.knowledge.rdf_terms import (
    DESCRIBING,
    KIND_OF,
    SUBCLASS,
    SYNONYMS,
    TYPE,
    Names,
    local_name,
    source_of,
)
from recipec.runtime.knowledge.sparql_queries import Query, Source
from recipec.runtime.knowledge.statements import Link, Triple
from recipec.runtime.protocols import Part

_REMEMBERED = 1 << 16
_SPLIT = re.compile(r"(.*[/#:])([^/#:]+)", re.DOTALL)
_SLOT = re.compile(r"\{(subject|relation|object)\}")
_WORDING = {SUBCLASS.value: "is a kind of", TYPE.value: "is a", KIND_OF[1]: "is a kind of"}


@dataclass(frozen=True, slots=True)
class Reads:
    """Parameters that all knowledge graphs share.

    Example: ``Reads(closed=("has symptom",), language="en")``.
    """

    names: Names = field(default_factory=Names)
    say: str = "{subject} {relation} {object}."
    relations: tuple[str, ...] = ()
    """Relations that are read; empty: all."""
    closed: tuple[str, ...] = ()
    """Relations for which the graph lists every object."""
    functional: tuple[str, ...] = ()
    """Relations with at most one object."""
    language: str | None = None


class KnowledgeGraph(Part):
    """A knowledge graph: entities with labels, relations between them, and classes.

    Ids are those of :class:`recipec.runtime.knowledge.rdf_terms.Names`; every result has a fixed order.
    """

    def __init__(self, source: Source, reads: Reads, embedder: Any = None, min_similarity: float = 0.5) -> None:
        """``embedder`` finds entities similar to a text without a label in it.

        Raises:
            RecipeError: RC871, the graph has no facts; RC872, it lacks a relation of the recipe.
        """
        self.source = source
        self.reads = reads
        self.names = reads.names
        self.embedder = embedder
        self.min_similarity = min_similarity
        self._select = lru_cache(_REMEMBERED)(self._ask)
        self.relations = self._relations()
        self.closed = frozenset(self._named(name, "closed") for name in reads.closed)
        declared = {self.names.id(relation) for (relation,) in self.select(sparql_queries.FUNCTIONAL)} & self.relations
        self.functional = frozenset(declared | {self._named(name, "functional") for name in reads.functional})

    def labels(self, entity: str) -> tuple[str, ...]:
        """Return the names of an entity, the preferred one first; without names, its id in words."""
        known = self._labels.get(entity)
        return tuple(label for _, label in known) if known else (self._spelled(entity),)

    def label(self, entity: str) -> str:
        """Return the preferred name."""
        return self.labels(entity)[0]

    def link(self, text: str, top_k: int | None = None) -> list[Link]:
        """Return the entities that a text mentions, the best match first: by labels, then by similarity.

        The order is by score, then subjects of facts before other entities, longer before shorter mentions, earlier
        before later.  Without ``top_k`` all entities found by labels are returned, in the order of the text.
        """
        links = self._linker.links(text)
        if top_k is None:
            return links
        best = list({link.entity: link for link in sorted(links, key=self._rank, reverse=True)}.values())
        best.sort(key=self._rank)
        if len(best) < top_k and self.embedder is not None:
            seen = {link.entity for link in best}
            near = self.embedder.nearest(text, top_k + len(seen), self._titles)
            best += [
                Link(entity, self.label(entity), 0, len(text), score)
                for entity, score in near
                if entity not in seen and score >= self.min_similarity
            ]
        return best[:top_k]

    def neighborhood(
        self,
        entities: Iterable[str],
        hops: int,
        relations: Sequence[str] = (),
        direction: Literal["out", "in", "both"] = "out",
    ) -> list[Triple]:
        """Return the facts with the entities as subject, then the facts about their objects, and so on.

        Direction ``in`` takes facts with the entities as object, ``both`` takes either.  Nearer facts come first; those
        of one entity are sorted by relation and object.
        """
        wanted = frozenset(self._named(name, "relations") for name in relations)
        front = list(dict.fromkeys(entities))
        seen, facts = set(front), dict[tuple[str, str, str], Triple]()
        for _ in range(hops):
            reached: list[str] = []
            for entity in front:
                near = (self.facts_about(entity) if direction != "in" else []) + (
                    self.facts_with_object(entity) if direction != "out" else []
                )
                for triple in near:
                    if wanted and triple.relation not in wanted:
                        continue
                    facts.setdefault(triple.fact, triple)
                    reached.append(triple.subject if triple.object == entity else triple.object)
            front = [entity for entity in dict.fromkeys(reached) if entity not in seen and not entity.startswith('"')]
            seen.update(front)
        return list(facts.values())

    def verbalize(self, triple: Triple) -> str:
        """Write a fact as a sentence, by the labels of its parts and the template of the recipe."""
        parts = {"subject": self.label(triple.subject), "object": self.label(triple.object)}
        parts["relation"] = self.relation_label(triple.relation)
        return _SLOT.sub(lambda slot: parts[slot.group(1)], self.reads.say)

    @property
    def size(self) -> dict[str, int]:
        """Number of entities with labels, and number of relations."""
        return {"entities": len(self._labels), "relations": len(self.relations)}

    @property
    def description(self) -> str:
        """The graph and its size in words."""
        size = self.size
        return f"facts of {self.source.name}: {size['entities']:,} named entities, {size['relations']:,} relations"

    def relation_label(self, relation: str) -> str:
        """Return the label of a relation."""
        term = self.names.term(relation)
        worded = _WORDING.get(term.value)
        return worded or self.label(relation).replace("_", " ")

    def facts_about(self, entity: str) -> list[Triple]:
        """Return the facts with an entity as subject."""
        return [
            Triple(entity, self.names.id(relation), self.names.id(thing), source_of(place))
            for relation, thing, place in self._facts(sparql_queries.OUT, "subject", entity)
            if self._is_fact(relation, thing)
        ]

    def facts_with_object(self, entity: str) -> list[Triple]:
        """Return the facts with an entity as object."""
        return [
            Triple(self.names.id(subject), self.names.id(relation), entity, source_of(place))
            for subject, relation, place in self._facts(sparql_queries.INTO, "object", entity)
            if self._is_fact(relation, self.names.term(entity))
        ]

    def ancestors(self, entity: str) -> frozenset[str]:
        """Return an entity and every class above it."""
        return self._ids(sparql_queries.ANCESTORS, entity) | {entity}

    def disjoint(self, entity: str) -> frozenset[str]:
        """Return the classes that are disjoint with a class."""
        return self._ids(sparql_queries.DISJOINT, entity)

    def relations_into(self, entity: str) -> frozenset[str]:
        """Return the relations with an entity or a descendant as object, else those of its parents."""
        front, seen = [entity], {entity}
        while front:
            relations = {
                self.names.id(relation)
                for one in front
                for (relation,) in self.select(sparql_queries.RELATIONS_BELOW, entity=self.names.term(one))
            }
            if relations := {relation for relation in relations if relation in self.relations}:
                return frozenset(relations)
            front = [up for one in front for up in sorted(self._ids(sparql_queries.PARENTS, one)) if up not in seen]
            seen.update(front)
        return frozenset()

    def has_facts(self, entity: str) -> bool:
        """Whether an entity is the subject of facts other than its classes."""
        return any(triple.relation not in self.kinds for triple in self.facts_about(entity))

    def negative(self, relation: str) -> str | None:
        """Return the relation that denies another: ``not_NAME`` or ``not NAME``."""
        return next((other for other, denied in self._denied.items() if denied == relation), None)

    def positive(self, relation: str) -> str:
        """Return the relation that a negative relation denies; other relations are returned unchanged."""
        return self._denied.get(relation, relation)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The relations to classes."""
        return frozenset(r for r in self.relations if self.names.term(r).value in KIND_OF)

    @property
    def kind(self) -> str:
        """The relation to classes; ``rdfs:subClassOf`` where the graph has several."""
        plain = self.names.id(SUBCLASS)
        return plain if plain in self.kinds else min(self.kinds)

    def may_be_classes(self, entity: str, thing: str) -> bool:
        """Whether the graph has a class for ``entity``, and ``thing`` is a class."""
        kinds = {triple.relation for triple in self.facts_about(entity)} & self.kinds
        return bool(kinds) and bool(self.relations_into(thing) & self.kinds or self.ancestors(thing) - {thing})

    @cached_property
    def _denied(self) -> dict[str, str]:
        """Negative relations, and the relation that each denies."""
        denied = {relation: _denied(relation) for relation in self._every}
        return {relation: plain for relation, plain in denied.items() if plain is not None}

    def select(self, query: Query, **terms: Any) -> tuple[Any, ...]:
        """Query the source; results are cached."""
        return self._select(query, tuple(terms.items()))

    def close(self) -> None:
        """Close the source."""
        self._select.cache_clear()
        self.source.close()

    def relation_links(self, text: str) -> list[Link]:
        """Return the relations that a text mentions."""
        return self._relation_linker.links(text)

    def _rank(self, link: Link) -> tuple[float, bool, int, int]:
        return -link.score, not self.has_facts(link.entity), link.start - link.end, link.start

    def _ask(self, query: Query, terms: tuple[tuple[str, Any], ...]) -> tuple[Any, ...]:
        return tuple(self.source.select(query, **dict(terms)))

    def _facts(self, query: Query, variable: str, entity: str) -> tuple[Any, ...]:
        term = self.names.term(entity)
        if variable == "subject" and not isinstance(term, ox.NamedNode):
            return ()
        return self.select(query, **{variable: term})

    def _ids(self, query: Query, entity: str) -> frozenset[str]:
        term = self.names.term(entity)
        if not isinstance(term, ox.NamedNode):
            return frozenset()
        return frozenset(self.names.id(node) for (node,) in self.select(query, entity=term))

    def _is_fact(self, relation: Any, thing: Any) -> bool:
        if self.names.id(relation) not in self.relations:
            return False
        return not (relation.value in KIND_OF and thing.value.startswith(DESCRIBING[:5]))

    def _relations(self) -> frozenset[str]:
        """Find the relations of facts that the recipe does not leave out.

        Raises:
            RecipeError: RC871, RC872.
        """
        terms = [term for (term,) in self.source.select(sparql_queries.RELATIONS)]
        relations = [
            t.value for t in terms if t is not None and (t.value in KIND_OF or not t.value.startswith(DESCRIBING))
        ]
        self._every = {self.names.id(ox.NamedNode(value)) for value in relations}
        if not self._every:
            raise RecipeError(errors.no_facts(self.source.name, "it has no relation between two things"))
        if not self.reads.relations:
            return frozenset(self._every)
        kept = {self._named(name, "relations") for name in self.reads.relations}
        return frozenset(kept | {denying for denying, plain in self._denied.items() if plain in kept})

    def _named(self, name: str, param: str) -> str:
        """Find a relation by its id or by a label.

        Raises:
            RecipeError: RC872.
        """
        if name in self._every:
            return name
        folded = [fold(word.text) for word in words(name)]
        for relation in sorted(self._every):
            for label in (*self.labels(relation), self.relation_label(relation)):
                if [word.text for word in words(label)] == folded:
                    return relation
        known = {self._known_as(relation) for relation in self._every}
        raise RecipeError(errors.unknown_relation(self.source.name, name, known, param))

    def _known_as(self, relation: str) -> str:
        return relation if relation.isascii() and len(relation) < 30 else self.relation_label(relation)

    def _spelled(self, entity: str) -> str:
        term = self.names.term(entity)
        plain = isinstance(term, ox.Literal) or term.value.startswith(self.names.base)
        return (term.value if isinstance(term, ox.Literal) else entity) if plain else local_name(term.value)

    @cached_property
    def _labels(self) -> dict[str, list[tuple[float, str]]]:
        """Names of every entity, the best first."""
        names: dict[str, dict[str, float]] = {}
        for entity, naming, label in self.source.select(sparql_queries.LABELS):
            if not (isinstance(naming, ox.NamedNode) and isinstance(label, ox.Literal) and entity is not None):
                continue
            language = self.reads.language
            if language is not None and label.language not in {None, language}:
                continue
            labels = names.setdefault(self.names.id(entity), {})
            text = " ".join(label.value.split())
            if text:
                labels[text] = max(labels.get(text, 0.0), SYNONYMS[naming.value])
        return {
            entity: sorted(((score, label) for label, score in labels.items()), key=lambda one: (-one[0], one[1]))
            for entity, labels in names.items()
            if labels
        }

    @cached_property
    def _linker(self) -> Linker:
        return Linker(
            (entity, label, score)
            for entity, labels in self._labels.items()
            if entity not in self._every
            for score, label in labels
        )

    @cached_property
    def _relation_linker(self) -> Linker:
        return Linker(
            (relation, label, 1.0)
            for relation in sorted(self.relations)
            for label in dict.fromkeys((*self.labels(relation), self.relation_label(relation)))
        )

    @cached_property
    def _titles(self) -> tuple[tuple[str, str], ...]:
        """Every entity with each of its labels, in a fixed order."""
        every = ((entity, label) for entity, labels in sorted(self._labels.items()) for _, label in labels)
        return tuple((entity, label) for entity, label in every if entity not in self._every)


def _denied(relation: str) -> str | None:
    """Return the relation that a negative relation denies, or None.

    >>> _denied("not_has symptom"), _denied("http://e.org/v#not_causes"), _denied("notes")
    ('has symptom', 'http://e.org/v#causes', None)
    """
    parts = _SPLIT.fullmatch(relation)
    head, last = (parts.group(1), parts.group(2)) if parts else ("", relation)
    plain = next((last.removeprefix(prefix) for prefix in ("not_", "not ") if last.startswith(prefix)), "")
    return head + plain if plain else None

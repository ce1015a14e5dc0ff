"""The queries of a knowledge graph, as constant SPARQL with bound variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyoxigraph as ox

from recipec.runtime.knowledge.rdf_terms import OWL, RDFS, SKOS, SYNONYMS, Node

Answer = tuple[Node | None, ...]
_UP = f"(<{RDFS}subClassOf>|<{SKOS}broader>)"


@dataclass(frozen=True, slots=True)
class Query:
    """A query: its variables, pattern and order.

    Example: ``Query(("parent",), "?entity rdfs:subClassOf ?parent", "?parent")``.
    """

    variables: tuple[str, ...]
    pattern: str
    order: str = ""
    sourced: bool = False
    """Whether the last variable ``?source`` is the named graph of the pattern."""

    def text(self, also: Iterable[str] = (), *, values: str = "", graphs: bool = True, limit: str = "") -> str:
        """Return the query in SPARQL.

        ``also`` are bound variables, which a store requires in the projection; ``values`` are serialised bindings.
        """
        names = (*(self.variables if graphs or not self.sourced else self.variables[:-1]), *also)
        pattern = f"GRAPH ?source {{ {self.pattern} }}" if graphs and self.sourced else self.pattern
        head = " ".join(f"?{name}" for name in names)
        order = f" ORDER BY {self.order}" if self.order else ""
        return f"SELECT DISTINCT {head} WHERE {{ {values}{pattern} }}{order}{limit}"

    def bound(self, terms: Mapping[str, Node], *, limit: int | None = None, offset: int = 0) -> str:
        """Return the query for an endpoint, with the bindings serialised by the terms."""
        names = " ".join(f"?{name}" for name in terms)
        row = " ".join(str(term) for term in terms.values())
        values = f"VALUES ({names}) {{ ({row}) }} " if terms else ""
        page = f" LIMIT {int(limit)} OFFSET {int(offset)}" if limit is not None else ""
        return self.text(terms, values=values, graphs=False, limit=page)


class Source(Protocol):
    """A store or a service that answers queries."""

    def select(self, query: Query, **terms: Node) -> Sequence[Answer]:
        """Return the solutions with variables bound to ``terms``; None for unbound variables."""

    @property
    def name(self) -> str:
        """The name in messages."""

    def close(self) -> None:
        """Close files and connections."""


_NAMING = " ".join(f"<{name}>" for name in SYNONYMS)
LABELS = Query(
    ("entity", "property", "label"),
    f"VALUES ?property {{ {_NAMING} }} ?entity ?property ?label . FILTER(isIRI(?entity) && isLiteral(?label))",
    "?entity ?property ?label",
)
RELATIONS = Query(("relation",), "?subject ?relation ?object", "?relation")
OUT = Query(
    ("relation", "object", "source"),
    "?subject ?relation ?object . FILTER(!isBlank(?object))",
    "?relation ?object",
    sourced=True,
)
INTO = Query(
    ("subject", "relation", "source"),
    "?subject ?relation ?object . FILTER(isIRI(?subject))",
    "?relation ?subject",
    sourced=True,
)
ANCESTORS = Query(("ancestor",), f"?entity {_UP}* ?ancestor . FILTER(isIRI(?ancestor))", "?ancestor")
PARENTS = Query(("parent",), f"?entity {_UP} ?parent . FILTER(isIRI(?parent))", "?parent")
RELATIONS_BELOW = Query(("relation",), f"?below {_UP}* ?entity . ?subject ?relation ?below", "?relation")
DISJOINT = Query(
    ("other",),
    f"?entity (<{OWL}disjointWith>|^<{OWL}disjointWith>) ?other . FILTER(isIRI(?other))",
    "?other",
)
FUNCTIONAL = Query(("relation",), f"?relation a <{OWL}FunctionalProperty> . FILTER(isIRI(?relation))", "?relation")


class Stored:
    """A local store."""

    def __init__(self, store: ox.Store, name: str) -> None:
        self.store = store
        self._name = name

    @property
    def name(self) -> str:
        """The name in messages."""
        return self._name

    def select(self, query: Query, **terms: Node) -> list[Answer]:
        """Return the solutions of a query; a term that is not in the store matches nothing."""
        solutions = self.store.query(
            query.text(terms),
            use_default_graph_as_union=True,
            substitutions={ox.Variable(name): term for name, term in terms.items()},
        )
        assert isinstance(solutions, ox.QuerySolutions)
        answers = [tuple(solution[name] for name in query.variables) for solution in solutions]
        return [answer for answer in answers if not any(isinstance(term, ox.BlankNode | ox.Triple) for term in answer)]

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self.__dict__.pop("store", None)

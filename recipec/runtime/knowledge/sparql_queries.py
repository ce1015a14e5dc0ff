"""Every question that is asked of a graph, as constant SPARQL; what varies is bound, never written into it."""

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
    """A question: what is asked for, its pattern, its order.

    Example: ``Query(("parent",), "?entity rdfs:subClassOf ?parent", "?parent")``.
    """

    variables: tuple[str, ...]
    pattern: str
    order: str = ""
    sourced: bool = False
    """Whether ``?source``, the last variable, is the named graph of the pattern, where graphs are sources."""

    def text(self, also: Iterable[str] = (), *, values: str = "", graphs: bool = True, limit: str = "") -> str:
        """Write the question in SPARQL.

        ``also`` are bound variables, which are projected too, as a store that binds them asks; ``values`` are bindings
        that terms were serialised to by themselves.
        """
        asked = (*(self.variables if graphs or not self.sourced else self.variables[:-1]), *also)
        pattern = f"GRAPH ?source {{ {self.pattern} }}" if graphs and self.sourced else self.pattern
        head = " ".join(f"?{name}" for name in asked)
        order = f" ORDER BY {self.order}" if self.order else ""
        return f"SELECT DISTINCT {head} WHERE {{ {values}{pattern} }}{order}{limit}"

    def bound(self, terms: Mapping[str, Node], *, limit: int | None = None, offset: int = 0) -> str:
        """Write the question for an endpoint, whose terms are serialised by the terms themselves."""
        names = " ".join(f"?{name}" for name in terms)
        row = " ".join(str(term) for term in terms.values())
        values = f"VALUES ({names}) {{ ({row}) }} " if terms else ""
        page = f" LIMIT {int(limit)} OFFSET {int(offset)}" if limit is not None else ""
        return self.text(terms, values=values, graphs=False, limit=page)


class Source(Protocol):
    """Whom questions are asked."""

    def select(self, query: Query, **terms: Node) -> Sequence[Answer]:
        """Answer a question, its variables bound to terms; what a solution leaves open is none."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def close(self) -> None:
        """Let go of files and connections."""


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
    """A store of this machine."""

    def __init__(self, store: ox.Store, name: str) -> None:
        self.store = store
        self._name = name

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    def select(self, query: Query, **terms: Node) -> list[Answer]:
        """Answer a question; a term that the store does not know matches nothing."""
        found = self.store.query(
            query.text(terms),
            use_default_graph_as_union=True,
            substitutions={ox.Variable(name): term for name, term in terms.items()},
        )
        assert isinstance(found, ox.QuerySolutions)
        answers = [tuple(solution[name] for name in query.variables) for solution in found]
        return [answer for answer in answers if not any(isinstance(term, ox.BlankNode | ox.Triple) for term in answer)]

    def close(self) -> None:
        """Let go of the files; once is enough, and twice does no harm."""
        self.__dict__.pop("store", None)

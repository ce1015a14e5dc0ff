"""Ids and RDF terms: plain names of any characters become IRIs and come back unchanged."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

import pyoxigraph as ox

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
RDFS = "http://www.w3.org/2000/01/rdf-schema#"
OWL = "http://www.w3.org/2002/07/owl#"
SKOS = "http://www.w3.org/2004/02/skos/core#"
OIO = "http://www.geneontology.org/formats/oboInOwl#"
LABEL = ox.NamedNode(f"{RDFS}label")
SUBCLASS = ox.NamedNode(f"{RDFS}subClassOf")
TYPE = ox.NamedNode(f"{RDF}type")
SYNONYMS = {
    f"{RDFS}label": 1.0,
    f"{SKOS}prefLabel": 1.0,
    f"{SKOS}altLabel": 0.95,
    f"{OIO}hasExactSynonym": 0.95,
    f"{OIO}hasNarrowSynonym": 0.95,
    f"{OIO}hasRelatedSynonym": 0.9,
    f"{OIO}hasBroadSynonym": 0.8,
}
"""Properties that name an entity, with the score of the name."""
DESCRIBING = (
    RDF,
    RDFS,
    OWL,
    SKOS,
    OIO,
    "http://purl.org/dc/",
    "http://purl.obolibrary.org/obo/IAO_",
    "http://www.w3.org/ns/prov#",
)
"""Namespaces of properties that describe an entity and state no fact."""
KIND_OF = (SUBCLASS.value, f"{SKOS}broader", TYPE.value)
"""Properties of these namespaces that do state a fact: the class of an entity."""
SOURCE = "urn:x-source:"
"""Named graphs are where their triples were read."""

Node = ox.NamedNode | ox.Literal
_IRI = re.compile(r"(?:https?://|urn:)\S+", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def iri(text: str) -> ox.NamedNode | None:
    """Return a text as an IRI, or None where it is not one."""
    try:
        return ox.NamedNode(text)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Names:
    """Conversion between RDF terms and the ids that people and models see.

    An id is an IRI, an IRI in angle brackets, a literal as N-Triples writes it, or a plain name.
    """

    base: str = "urn:x-name:"
    """Prefix of the IRIs of plain names."""

    def node(self, name: str) -> ox.NamedNode:
        """Return the IRI of a cell of a file: an IRI as it is, anything else as a plain name.

        >>> Names().node("dry skin"), Names().node("http://example.com/a")
        (<NamedNode value=urn:x-name:dry%20skin>, <NamedNode value=http://example.com/a>)
        """
        spelled = name[1:-1] if name[:1] == "<" and name[-1:] == ">" else name
        node = iri(spelled) if spelled != name or _IRI.fullmatch(name) else None
        return node or ox.NamedNode(self.base + quote(sound(name), safe=""))

    def term(self, name: str) -> Node:
        """Return the term of an id.

        >>> names = Names()
        >>> names.term(names.id(ox.Literal("red", language="en")))
        <Literal value=red language=en>
        """
        return (literal(name) if name[:1] == '"' else None) or self.node(name)

    def id(self, term: Node) -> str:
        """Return the id of a term: the shortest spelling that :meth:`term` reads as the same.

        >>> Names().id(ox.NamedNode("urn:x-name:dry%20skin"))
        'dry skin'
        """
        if isinstance(term, ox.Literal):
            return str(term)
        spellings = [unquote(term.value.removeprefix(self.base))] if term.value.startswith(self.base) else []
        spellings.append(term.value)
        return next((name for name in spellings if name and self.term(name) == term), f"<{term.value}>")


def literal(text: str) -> ox.Literal | None:
    r"""Parse a literal in N-Triples syntax; None where it is not one.

    >>> literal('"a\\"b"@en'), literal('"open')
    (<Literal value=a"b language=en>, None)
    """
    try:
        (quad,) = ox.parse(input=f"<urn:x> <urn:x> {text} .", format=ox.RdfFormat.N_TRIPLES)
    except (SyntaxError, ValueError):
        return None
    return quad.object if isinstance(quad.object, ox.Literal) and str(quad.object) == text else None


def sound(text: str) -> str:
    """Replace halves of surrogate pairs, which stores refuse."""
    return text.encode("utf-8", "replace").decode("utf-8")


def local_name(value: str) -> str:
    """Return the last part of an IRI in words, for things without a label.

    >>> local_name("http://example.com/v#hasSymptom"), local_name("http://e.org/dry_skin")
    ('has symptom', 'dry skin')
    """
    last = unquote(re.split(r"[/#:]", value.rstrip("/#:"))[-1])
    return " ".join(_CAMEL.sub(" ", last.replace("_", " ")).lower().split()) if not last.isdigit() else value


def source_graph(place: str) -> ox.NamedNode:
    """Return the named graph for triples that were read at a place."""
    return ox.NamedNode(SOURCE + quote(sound(place), safe=""))


def source_of(graph: object) -> str:
    """Return the place of a named graph; empty text for other graphs.

    >>> source_of(source_graph("a b.tsv:3"))
    'a b.tsv:3'
    """
    value = graph.value if isinstance(graph, ox.NamedNode) else ""
    return unquote(value.removeprefix(SOURCE)) if value.startswith(SOURCE) else value

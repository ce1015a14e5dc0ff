"""A graph of facts."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from recipec.component import Component, PathRef, component, knob

ENDINGS = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".nt": "nt",
    ".ntriples": "nt",
    ".ttl": "turtle",
    ".turtle": "turtle",
    ".graphml": "graphml",
}
"""How a file of facts ends, and what it then holds."""


class Graph(Component):
    """What every graph can say."""

    relations: tuple[str, ...] = knob((), "Facts of these relations alone, by id or label; absent: of all.")
    closed: tuple[str, ...] = knob(
        (), "Relations of which the graph lists every object: what it does not list is contradicted."
    )
    functional: tuple[str, ...] = knob((), "Relations that have one object at most.")
    say: str = knob(
        "{subject} {relation} {object}.", "A fact in words; `{subject}`, `{relation}` and `{object}` are its labels."
    )
    language: str | None = knob(None, "Labels of this language alone, and those of none; absent: of all.")
    names: str = knob("urn:x-name:", "What stands before plain names to make IRIs of them.")

    @field_validator("say")
    @classmethod
    def _says_something(cls, value: str) -> str:
        if "{subject}" not in value or "{object}" not in value:
            raise ValueError("`say` needs `{subject}` and `{object}`")
        return value

    @field_validator("names")
    @classmethod
    def _whole(cls, value: str) -> str:
        scheme, colon, _ = value.partition(":")
        odd = set(value) & set(' <>"{}|\\^`') or not value.isprintable()
        if odd or not colon or not scheme.isalpha() or value[-1] not in ":/#":
            raise ValueError("`names` is the beginning of an IRI and ends in `:`, `/` or `#`")
        return value


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.triples:Triples")
class Triples(Graph):
    """Triples from files, in an embedded store.

    References:
        W3C, `RDF 1.1 <https://www.w3.org/TR/rdf11-concepts/>`_, 2014.
        W3C, `SPARQL 1.1 <https://www.w3.org/TR/sparql11-query/>`_, 2013.
    """

    type: Literal["triples"] = "triples"
    path: PathRef | tuple[PathRef, ...] = knob(..., "TSV, CSV, N-Triples, Turtle or GraphML; one file or several.")
    columns: tuple[str, str, str] | None = knob(
        None,
        "Columns of subject, relation and object in the first line of TSV and CSV; absent: there is no such line.",
    )
    attribute: str = knob("relation", "Attribute of a GraphML edge that names its relation.")

    @property
    def files(self) -> tuple[str, ...]:
        """The files, however many."""
        return (self.path,) if isinstance(self.path, str) else self.path

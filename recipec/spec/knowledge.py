"""A graph of facts."""

from __future__ import annotations

from typing import Literal

from recipec.component import Component, PathRef, component, knob


@component("knowledge", provides=("knowledge",))
class Triples(Component):
    """Triples from files, in an embedded store.

    References:
        W3C, `RDF 1.1 <https://www.w3.org/TR/rdf11-concepts/>`_, 2014.
    """

    type: Literal["triples"] = "triples"
    path: PathRef = knob(..., "TSV, CSV, N-Triples, Turtle or GraphML.")

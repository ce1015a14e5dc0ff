"""Knowledge graphs from files, in an embedded store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyoxigraph as ox

from recipec.diagnostics.errors import data as data_errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import hash_file
from recipec.package_files import named_file
from recipec.runtime.context import StageContext
from recipec.runtime.knowledge.embedding_search import resembling
from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph, Reads
from recipec.runtime.knowledge.rdf_terms import Names
from recipec.runtime.knowledge.sparql_queries import Stored
from recipec.runtime.knowledge.store_cache import key_of, open_store
from recipec.runtime.knowledge.triple_files import Reading, read_file
from recipec.spec import knowledge as specs


class Triples(KnowledgeGraph):
    """A knowledge graph from files; see :class:`recipec.spec.knowledge.Triples`."""

    def __init__(self, spec: specs.Triples, context: StageContext) -> None:
        """Open the store of the files, building it the first time.

        Raises:
            RecipeError: RC700, RC761, RC870 to RC872.
        """
        shown = spec.files
        paths = [named_file(context.root, name) for name in shown]
        reading = Reading(Names(spec.names), spec.columns, spec.attribute)

        def quads() -> Iterator[ox.Quad]:
            for path, name in zip(paths, shown, strict=True):
                yield from read_file(path, name, reading)
                if _hashed(path, name) != hashes[name]:  # else other facts would be stored under this hash
                    raise RecipeError(data_errors.data_missing(name, "it changed while it was read; run again"))

        hashes = {name: _hashed(path, name) for path, name in zip(paths, shown, strict=True)}
        key = key_of("triples", list(hashes.items()), spec.names, spec.columns, spec.attribute)
        store = open_store(context.cache, key, quads)
        source = Stored(store, ", ".join(shown))
        super().__init__(source, reads(spec), resembling(spec, context), spec.min_similarity)


def reads(spec: specs.Knowledge) -> Reads:
    """Return the parameters that all knowledge graphs share."""
    return Reads(Names(spec.names), spec.say, spec.relations, spec.closed, spec.functional, spec.language)


def _hashed(path: Path, shown: str) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise RecipeError(data_errors.data_missing(shown, error.strerror or str(error))) from error

"""Knowledge graphs: where they come from, and whether they support the claims of a text.

Sources are ``triples`` (``triple_files``, ``graphml``), ``hpo``, ``sparql_client``, and ``extract`` (documents that a
model reads).  ``knowledge_graph`` is their common interface (``sparql_queries``, ``rdf_terms``, ``store_cache``).
``entity_linking`` and ``embedding_search`` find entities in a text, ``claims`` its claims; ``verification`` checks a
claim, ``consistency`` scores all.  ``preflight`` checks a graph before a run.
"""

"""Knowledge graphs: where they come from, and whether they support the claims of a text.

Sources: ``triples`` (``triple_files``, ``graphml``), ``hpo``, ``sparql_client``, ``extract`` (documents read by a
model).
``knowledge_graph`` answers questions about any of them (``sparql_queries``, ``rdf_terms``, ``store_cache``).
``entity_linking`` and ``embedding_search`` find entities in a text, ``claims`` its claims, ``verification`` checks
them,
``consistency`` scores them.  Used by rewards and preferences.
"""

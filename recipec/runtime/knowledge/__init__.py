"""Graphs of facts: where they come from, what a text says about them, and whether they bear it out.

Sources: ``triples`` (files, read by ``read`` and ``graphml``), ``hpo`` (the phenotype ontology), ``endpoint`` (a SPARQL
service), ``extract`` (documents that a model reads, its answers by ``parse``).  ``graph`` is what a stage sees of any,
by the questions of ``queries`` about the terms of ``terms``; ``store`` keeps what was read.
Texts: ``link`` and ``embed`` find entities, ``claims`` what is said of them, ``check`` whether the graph says it,
and ``consistency`` counts that, for rewards and preferences.  ``facts`` are the values all of them speak in; ``look``
asks for what a graph needs before a run.
"""

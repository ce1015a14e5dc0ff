"""What can go wrong with graphs of facts: RC870 to RC884."""

from __future__ import annotations

from collections.abc import Iterable

from recipec.diagnostics import Finding, fault
from recipec.faults.data import at, nearest


@fault("RC870", "broken-fact")
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


@fault("RC871", "no-facts")
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


@fault("RC872", "unknown-relation")
def unknown_relation(name: str, relation: str, known: Iterable[str], knob: str = "relations") -> Finding:
    """The recipe asks a graph for a relation that it does not have.

    What it checks: `relations`, `closed` and `functional` against the relations of the facts, by id and by label.
    Why it matters: the stage would find no fact of that kind in the whole run.
    Example: `relations: [has_symptoms]` over a graph whose relation is `has_symptom`.
    Use instead: one of the relations that the message lists.
    """
    listed = sorted(known)
    shown = ", ".join(f"`{one}`" for one in listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    return Finding(
        f"the graph {name} has no relation `{relation}`, which `{knob}` names",
        why="no fact of that kind would be found in the whole run",
        help=nearest(relation, listed) or (f"it has {shown}" if listed else "it has no relations at all"),
        path=f"knowledge.{knob}",
    )

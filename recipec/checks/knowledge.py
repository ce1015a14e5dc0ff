"""Graphs of facts that could not be read, or not as the recipe thinks: RC340 to RC344."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from recipec.checks.queries import display_name, dotted, field_span, parts_of, related_span, span_of
from recipec.diagnostics.model import Finding, check
from recipec.reading.nearest_names import did_you_mean, nearest
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.knowledge import ENDINGS, Extract, Knowledge, Triples
from recipec.spec.recipe import weights_kind


def _graphs(reading: Reading) -> Iterator[tuple[StageReading, Part, Knowledge]]:
    return parts_of(reading, Knowledge)


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


@check("RC340", "unknown-format")
def unknown_format(reading: Reading) -> Iterator[Finding]:
    """A file of facts has an ending that says nothing about what it holds.

    What it checks: every `path` of knowledge `triples` ends in .tsv, .csv, .nt, .ttl or .graphml.
    Why it matters: a format is taken from the ending, never guessed from the contents.
    Example: `knowledge: {type: triples, path: facts.json}`.
    How to fix: one of these formats, under its own ending.
    """
    for _, part, spec in _graphs(reading):
        for number, name in enumerate(spec.files if isinstance(spec, Triples) else ()):
            if _ending(name) in ENDINGS:
                continue
            many = isinstance(spec, Triples) and not isinstance(spec.path, str)
            path = (*part.path, "path", number) if many else (*part.path, "path")
            yield Finding(
                f"`{name}` has no ending that says which format its facts are in",
                span_of(reading, path),
                why="a format is taken from the ending, never guessed from the contents",
                help="give a file that ends in .tsv, .csv, .nt, .ttl or .graphml",
                path=dotted(path),
            )


@check("RC341", "unknown-reader")
def unknown_reader(reading: Reading) -> Iterator[Finding]:
    """Documents are to be read by a stage that is not there by then.

    What it checks: `model` of knowledge `extract`, where it is a bare word, is an earlier stage.
    Why it matters: its weights would not exist when the documents are read.
    Example: `knowledge: {type: extract, model: later, path: texts.jsonl}`.
    How to fix: an earlier stage, a directory as `./name`, or a model of the hub as `org/name`; without `model` the
    policy reads as it enters the stage.
    """
    for stage, part, spec in _graphs(reading):
        model = spec.model if isinstance(spec, Extract) else None
        earlier = list(reading.stages)[: list(reading.stages).index(stage.name)]
        if model is None or weights_kind(model) != "stage" or model in earlier:
            continue
        same = "the stage itself, which has no policy yet" if model == stage.name else "no earlier stage"
        yield Finding(
            f"{display_name(part)} lets `{model}` read, and that is {same}",
            field_span(reading, part, "model"),
            why="its weights would not exist when the documents are read",
            help=did_you_mean(nearest(model, earlier))
            or "name an earlier stage, a directory as `./name`, or drop `model`: the policy then reads as it enters",
            path=dotted((*part.path, "model")),
        )


@check("RC342", "parameter-of-other-format", "warning")
def knob_of_other_format(reading: Reading) -> Iterator[Finding]:
    """A parameter says how to read a format that none of the files has.

    What it checks: `columns` of knowledge `triples` needs a TSV or CSV file, `attribute` a GraphML file.
    Why it matters: it looks as if the files were read in another way than they are.
    Example: `{type: triples, path: kg.graphml, columns: [subject, relation, object]}`.
    How to fix: drop it.
    """
    for _, part, spec in _graphs(reading):
        kinds = {ENDINGS.get(_ending(name), "") for name in spec.files} if isinstance(spec, Triples) else set()
        if not isinstance(spec, Triples) or "" in kinds:
            continue
        unread = {
            "columns": spec.columns is not None and not kinds & {"tsv", "csv"},
            "attribute": spec.attribute != "relation" and "graphml" not in kinds,
        }
        for name in (name for name, idle in unread.items() if idle):
            yield Finding(
                f"`{name}` of {display_name(part)} is of a format that none of its files has",
                field_span(reading, part, name),
                why="it looks as if the files were read in another way than they are",
                help="drop it",
                path=dotted((*part.path, name)),
            )


@check("RC343", "graph-of-each-stage")
def graph_of_each_stage(reading: Reading) -> Iterator[Finding]:
    """An evaluation holds answers against a graph that no fixed model reads.

    What it checks: where an evaluation scores by facts, the first graph of the recipe is no `extract` by a policy of
    the recipe itself.
    Why it matters: evaluations stand before and after every stage, and a graph that is read by the policy of the
    moment differs between them; one that a later stage reads is not there yet.
    Example: `reward: {true: {type: kg_consistency}}` in an evaluation of a recipe with `knowledge: {type: extract}`.
    How to fix: `model: ./directory` or `model: org/name`; or facts from files.
    """
    first = next((found for found in _graphs(reading)), None)
    if first is None or not isinstance(first[2], Extract):
        return
    _, part, spec = first
    model = getattr(spec, "model", None)
    if model is not None and weights_kind(model) != "stage":
        return
    for trial in reading.trials.values():
        if any(part.spec and _reads(part) for part in _scores(reading, trial.name)):
            yield Finding(
                f"evaluation `{trial.name}` holds answers against {display_name(part)}, which a policy of the recipe "
                f"reads",
                (*span_of(reading, trial.path, key=True), *related_span(reading, part.path, "the graph", key=True)),
                why="evaluations stand before and after every stage; the graph would differ, or not be there yet",
                help="give knowledge.model a directory or a model of the hub, or take facts from files",
                path=dotted(trial.path),
            )


def _reads(part: Part) -> bool:
    return part.spec is not None and any(need.signal == "knowledge" for need in part.spec.requires())


def _scores(reading: Reading, evaluation: str) -> tuple[Part, ...]:
    """Return the rewards of an evaluation: its own, or else those of the first rl stage."""
    own = tuple(part for part in reading.trials[evaluation].parts if part.slot == "reward")
    scoring = next((stage for stage in reading.stages.values() if stage.kind == "rl"), None)
    return own or (scoring.of("reward") if scoring else ())


@check("RC344", "relation-left-out")
def relation_left_out(reading: Reading) -> Iterator[Finding]:
    """A relation is said to be closed or functional and is not among those that are read.

    What it checks: `closed` and `functional` name relations of `relations`, where that is given.
    Why it matters: no fact of the relation is read, so nothing could be contradicted by it.
    Example: `relations: [treats], closed: [has symptom]`.
    How to fix: add it to `relations`, or drop it.
    """
    for _, part, spec in _graphs(reading):
        for name in ("closed", "functional"):
            for relation in getattr(spec, name) if spec.relations else ():
                if relation not in spec.relations:
                    yield Finding(
                        f"`{name}` of {display_name(part)} names `{relation}`, and `relations` does not",
                        (
                            *field_span(reading, part, name),
                            *related_span(reading, (*part.path, "relations"), "what is read"),
                        ),
                        why="no fact of the relation is read, so nothing could be contradicted by it",
                        help=f"add `{relation}` to `relations`, or drop it",
                        path=dotted((*part.path, name)),
                    )

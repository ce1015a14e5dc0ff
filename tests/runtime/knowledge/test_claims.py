"""What a text mentions and claims, and what a graph says of it."""

import time

import pytest
from support.knowledge_graphs import CLASSES, SKIN, graph_of, skin

from recipec.runtime.knowledge.claims import claims, sentences
from recipec.runtime.knowledge.statements import Claim, Triple
from recipec.runtime.knowledge.verification import check


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """The graph of two skin diseases; nothing is said to be complete."""
    return skin(tmp_path_factory.mktemp("skin"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """The same, its symptoms complete and its causes single."""
    folder = tmp_path_factory.mktemp("closed")
    return skin(folder, closed=("has symptom",), functional=("caused by",))


def said(graph, text, topic=()):
    """What a text claims and the verdict: object, negated, verdict."""
    return [(c.triple.object, c.negated, check(graph, c).verdict) for c in claims(graph, text, topic)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("PSORIASIS", ["psoriasis"]),
        ("psoria\u0301sis, Eczemas", ["psoriasis", "eczema"]),
        ("a skin plaque", ["skin plaques"]),
        ("Blisters of the hands, blisters", ["blisters of the hands", "blisters"]),
        ("vesicles", ["blisters"]),
        ("pyrexia?", ["fever"]),
        ("feverish scalings2 pseudopsoriasis", []),
        ("the patient's psoriasis's scaling", ["psoriasis", "scaling"]),
        ("", []),
    ],
)
def test_labels_are_found_whole(graph, text, found):
    """The longest label at each place, by whole words, whatever case, accents or plural; synonyms too."""
    links = graph.link(text)

    assert [link.entity for link in links] == found
    assert all(text[link.start : link.end] for link in links)


def test_links_are_ranked(graph):
    """With `top_k`, preferred labels come before synonyms, entities with facts before others, then longer mentions."""
    links = graph.link("vesicles, scaling or eczema or eczema", 3)

    assert [(link.entity, link.score) for link in links] == [("eczema", 1.0), ("scaling", 1.0), ("blisters", 0.95)]
    assert [link.entity for link in graph.link("scaling or skin plaques", 2)] == ["skin plaques", "scaling"]
    assert graph.link("nothing known", 2) == []


def test_hops_go_outward_in_order(graph):
    """Facts nearer to the entity come first, each once, and the same each time."""
    near, far = graph.neighborhood(["eczema"], 1), graph.neighborhood(["eczema"], 3)

    assert [t.object for t in near] == ["allergy", "blisters of the hands", "itching"]
    assert far[: len(near)] == near
    assert [t.object for t in far[len(near) :]] == ["blisters", "lesions"]
    assert {t.relation for t in graph.neighborhood(["eczema"], 1, ["Caused by"])} == {"caused by"}
    assert [t.subject for t in graph.neighborhood(["scaling"], 1, direction="in")] == ["psoriasis"]


def test_hops_do_not_go_through_values(tmp_path):
    """Two things of one colour are not neighbours: a literal says something and is nothing."""
    text = '@prefix : <https://example.org/> . :mole :colour "brown" . :wart :colour "brown" ; :caused_by :virus .'
    graph = graph_of(tmp_path, {"facts.ttl": text})
    (mole,) = graph.neighborhood(["https://example.org/mole"], 3, direction="both")

    assert mole.object == '"brown"'


def test_facts_are_said_by_labels(tmp_path):
    """The template takes labels, and only those: braces in it mean nothing else."""
    graph = skin(tmp_path, say="{subject} -({relation})-> {object} {0} {subject.x}")
    triple = graph.neighborhood(["blisters"], 1)[0]

    assert graph.verbalize(triple) == "blisters -(is a kind of)-> lesions {0} {subject.x}"


def test_sentences_keep_abbreviations():
    """Abbreviations end no sentence; lines and semicolons do."""
    text = "It itches, e.g. at night. Dr. Who; no.\n- a"
    assert sentences(text) == ["It itches, e.g. at night.", "Dr. Who", "no.", "- a"]


@pytest.mark.parametrize(
    ("text", "claimed"),
    [
        ("Psoriasis has scaling.", [("scaling", False, "supported")]),
        ("Psoriasis never shows scaling.", [("scaling", True, "contradicted")]),
        ("In psoriasis there is no fever.", [("fever", True, "supported")]),
        ("Psoriasis comes with pyrexia.", [("fever", False, "contradicted")]),
        ("Psoriasis. It has itching.", [("itching", False, "unknown")]),
        ("Eczema shows vesicles and lesions.", [("blisters", False, "supported"), ("lesions", False, "supported")]),
        ("Psoriasis is treated by topical steroids.", [("topical steroids", False, "supported")]),
        ("Psoriasis is caused by allergy.", [("allergy", False, "unknown")]),
        ("Psoriasis has no itching but scaling.", [("itching", True, "unknown"), ("scaling", False, "supported")]),
        ("Psoriasis shows scaling; fever is absent.", [("scaling", False, "supported"), ("fever", True, "supported")]),
        ("Not only scaling is seen in psoriasis.", [("scaling", False, "supported")]),
        ("Scaling was ruled out in psoriasis.", [("scaling", True, "contradicted")]),
        ("Psoriasis without scaling, itching or fever.", [(o, True, v) for o, v in (
            ("scaling", "contradicted"), ("itching", "unknown"), ("fever", "supported"))]),
        ("Psoriasis is a papulosquamous disease.", [("papulosquamous", False, "supported")]),
        ("Psoriasis is a fungal infection.", [("mycosis", False, "contradicted")]),
        ("It is treated by topical steroids; psoriasis is treated by scaling.", []),
        ("Psoriasis is treated by sun, topical steroids, and shows scaling.",
         [("topical steroids", False, "supported"), ("scaling", False, "supported")]),
        ("Psoriasis is not a fungal infection.", [("mycosis", True, "supported")]),
        ("Psoriasis is a disease with scaling.", [("scaling", False, "supported")]),
        ("Nothing is known.", []),
        ("Scaling and itching.", []),
    ],
)  # fmt: skip
def test_claims_and_verdicts(graph, text, claimed):
    """A sentence's entities are claimed of its subject, negated by cues, and held against facts and classes."""
    assert said(graph, text) == claimed


def test_a_cue_behind_a_comma_is_of_what_follows(graph):
    """What is ruled out after a comma is what the sentence names then."""
    found = said(graph, "Psoriasis shows scaling, and ruled out is fever.")

    assert found == [("scaling", False, "supported"), ("fever", True, "supported")]


def test_the_relation_right_before_a_thing_is_meant(tmp_path):
    """Of two relations that could hold, the one that the sentence names last before the thing."""
    facts = "psoriasis\ttreated by\tsteroids\nrosacea\tcaused by\tsteroids\n"
    graph = graph_of(tmp_path, {"facts.tsv": facts})

    for text, relation in (
        ("treated by mistake and caused by", "caused by"),
        ("caused by it or treated by", "treated by"),
    ):
        (claim,) = claims(graph, f"Rosacea is {text} steroids.")
        assert claim.triple == Triple("rosacea", relation, "steroids")


def test_the_topic_is_carried(graph):
    """A sentence without a subject is about the topic, then about the subject before it."""
    assert said(graph, "Scaling is seen. Eczema is another thing. It has itching.", ["psoriasis"]) == [
        ("scaling", False, "supported"),
        ("itching", False, "supported"),
    ]
    made = claims(graph, "Eczema differs from psoriasis by scaling.", ["psoriasis"])
    assert [c.triple.subject for c in made] == ["psoriasis"]


def test_closed_relations_deny_what_they_do_not_list(closed):
    """What a complete list does not have is contradicted, but not what only says more or less than the list."""
    assert said(closed, "Psoriasis has itching.") == [("itching", False, "contradicted")]
    assert said(closed, "Psoriasis has no itching.") == [("itching", True, "supported")]
    assert said(closed, "Eczema shows lesions.") == [("lesions", False, "supported")]
    evidence = check(closed, claims(closed, "Psoriasis has itching.")[0]).evidence
    assert {t.object for t in evidence} == {"scaling", "skin plaques"}


def test_functional_relations_have_one_object(closed):
    """Another object of a functional relation contradicts; a subject without any is unknown."""
    of_eczema = Claim(Triple("eczema", "caused by", "scaling"), "")
    of_psoriasis = Claim(Triple("psoriasis", "caused by", "scaling"), "")

    assert check(closed, of_eczema).verdict == "contradicted"
    assert check(closed, of_eczema).evidence[0].object == "allergy"
    assert check(closed, of_psoriasis).verdict == "unknown"


@pytest.mark.parametrize("param", ["closed", "functional"])
def test_more_specific_than_listed_is_unknown(tmp_path, param):
    """Where the list has a class above the object, the graph says less, not otherwise."""
    files = {"skin.tsv": SKIN + "acne\thas symptom\tlesions\n", "classes.ttl": CLASSES}
    graph = graph_of(tmp_path, files, **{param: ("has symptom",)})

    def verdict(subject, thing):
        return check(graph, Claim(Triple(subject, "has symptom", thing), "")).verdict

    assert verdict("eczema", "lesions") == "supported"
    assert verdict("acne", "blisters of the hands") == "unknown"
    assert verdict("psoriasis", "blisters") == "contradicted"
    assert verdict("allergy", "blisters") == "unknown"


def test_denial_of_a_class_denies_what_is_below(tmp_path):
    """Who has no lesions has no blisters; who has no blisters of the hands may have others."""
    facts = SKIN + "acne\tnot_has symptom\tlesions\nrosacea\tnot_has symptom\tblisters of the hands\n"
    graph = graph_of(tmp_path, {"skin.tsv": facts, "classes.ttl": CLASSES})

    def verdict(subject):
        return check(graph, Claim(Triple(subject, "has symptom", "blisters"), "")).verdict

    assert (verdict("acne"), verdict("rosacea")) == ("contradicted", "unknown")


def test_evidence_says_where(graph):
    """A verdict names the facts with their lines; disjoint classes name the way there."""
    (claim,) = claims(graph, "Psoriasis shows scaling.")
    assert [t.source for t in check(graph, claim).evidence] == ["skin.tsv:1"]
    (claim,) = claims(graph, "Psoriasis is an infection.")
    way = check(graph, claim).evidence
    assert [(t.subject, t.object) for t in way] == [("psoriasis", "papulosquamous"), ("papulosquamous", "infection")]


def test_a_claim_is_made_once(graph):
    """The same claim in two sentences is one; its denial is another."""
    found = said(graph, "Psoriasis has scaling. Psoriasis has scaling. Psoriasis has no scaling.")

    assert found == [("scaling", False, "supported"), ("scaling", True, "contradicted")]


def test_a_graph_says_its_size(graph):
    """Its files, its entities with names, its relations."""
    assert graph.description == "facts of skin.tsv, classes.ttl: 18 named entities, 5 relations"


@pytest.mark.parametrize(("kind", "verdict"), [("owl:FunctionalProperty", "contradicted"), ("rdf:Property", "unknown")])
def test_a_graph_declares_what_is_single(tmp_path, kind, verdict):
    """What a graph itself calls functional has one object: another is contradicted, without a word in the recipe."""
    text = f"""
        @prefix : <https://example.org/> .
        @prefix owl: <http://www.w3.org/2002/07/owl#> .
        @prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .
        @prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
        :counts_as a {kind} ; rdfs:label "counts as" .
        :melanoma rdfs:label "melanoma" ; :counts_as :cancer .
        :mole rdfs:label "mole" ; :counts_as :harmless .
        :cancer rdfs:label "cancer" . :harmless rdfs:label "harmless" .
    """
    graph = graph_of(tmp_path, {"facts.ttl": text})
    (claim,) = claims(graph, "Melanoma counts as harmless.")
    assert check(graph, claim).verdict == verdict


def test_long_sentences_take_time_that_grows_with_their_length(graph):
    """A completion of 10 kB in one sentence is judged in seconds, whatever a model repeats."""
    begun = time.process_time()
    assert said(graph, "psoriasis has scaling and " * 400 + "scaling")
    assert said(graph, "psoriasis scaling has word " * 400)
    assert time.process_time() - begun < 4

"""The small knowledge graph: common facts about eight skin lesions, in our own words.

Four signs of each lesion are those of lesions.py; the other facts are textbook dermatology, much shortened.  They are
here so that a program can check answers against them, and are not medical advice.
"""  # noqa: INP001

from __future__ import annotations

from collections.abc import Iterator

from lesions import DIAGNOSES

RELATIONS = {
    "counts_as": "counts as",
    "arises_from": "arises from",
    "is_treated_by": "is treated by",
    "calls_for": "calls for",
    "has_colour": "has the colour",
    "has_border": "has the border",
    "has_shape": "has the shape",
    "has_size": "has the size",
}
ASKED = tuple(RELATIONS)[:4]
"""Relations that questions are about; the others are visible in the image."""

FACTS = {
    "mole": ("harmless", "pigment cells", "nothing", "watching"),
    "atypical mole": ("suspicious", "pigment cells", "watching", "yearly checks"),
    "melanoma": ("cancer", "pigment cells", "excision", "referral"),
    "seborrheic keratosis": ("harmless", "surface cells", "freezing", "reassurance"),
    "solar lentigo": ("harmless", "sunlight", "laser", "sun protection"),
    "basal cell carcinoma": ("cancer", "basal cells", "excision", "referral"),
    "cherry angioma": ("harmless", "blood vessels", "laser", "reassurance"),
    "actinic keratosis": ("precancer", "surface cells", "freezing", "sun protection"),
}
SYNONYMS = {
    "mole": ("melanocytic nevus",),
    "atypical mole": ("dysplastic nevus",),
    "melanoma": ("malignant melanoma",),
    "seborrheic keratosis": ("seborrheic wart",),
    "solar lentigo": ("sun spot",),
    "basal cell carcinoma": ("rodent ulcer",),
    "cherry angioma": ("ruby spot",),
    "actinic keratosis": ("solar keratosis",),
}
TOPICS = {
    "mole": "melanocytic-naevus",
    "atypical mole": "atypical-melanocytic-naevus",
    "melanoma": "melanoma",
    "seborrheic keratosis": "seborrhoeic-keratosis",
    "solar lentigo": "solar-lentigo",
    "basal cell carcinoma": "basal-cell-carcinoma",
    "cherry angioma": "cherry-angioma",
    "actinic keratosis": "actinic-keratosis",
}
"""Pages of DermNet (https://dermnetnz.org) with the facts in detail."""

HEAD = """\
# Eight skin lesions: their signs, in the factors of the ABCD rule, and a few facts, much shortened. Made by make.py.
# It teaches and checks a toy model; it is no medical advice.
@prefix : <https://example.org/lesion/> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
@prefix owl: <http://www.w3.org/2002/07/owl#> .
@prefix skos: <http://www.w3.org/2004/02/skos/core#> .
@prefix dcterms: <http://purl.org/dc/terms/> .
"""


def told(diagnosis: str) -> dict[str, str]:
    """Return relation -> value for all facts about a diagnosis."""
    sign = DIAGNOSES[diagnosis]
    return dict(zip(RELATIONS, (*FACTS[diagnosis], sign.colour, sign.border, sign.shape, sign.size), strict=True))


def turtle() -> str:
    """Return the graph as Turtle; relations are functional, so that any other value is a contradiction."""
    return "\n".join((HEAD, *_relations(), "", *_values(), "", *_diagnoses()))


def name(text: str) -> str:
    """Return the local name of a label."""
    return text.replace(" ", "_")


def _relations() -> Iterator[str]:
    for relation, label in RELATIONS.items():
        yield f':{relation} a owl:ObjectProperty, owl:FunctionalProperty ; rdfs:label "{label}" .'


def _values() -> Iterator[str]:
    values = {value for diagnosis in DIAGNOSES for value in told(diagnosis).values()}
    for value in sorted(values):
        yield f':{name(value)} rdfs:label "{value}" .'


def _diagnoses() -> Iterator[str]:
    for diagnosis in DIAGNOSES:
        yield f':{name(diagnosis)} rdfs:label "{diagnosis}" ;'
        yield "".join(f'  skos:altLabel "{other}" ;' for other in SYNONYMS[diagnosis])
        yield f"  dcterms:source <https://dermnetnz.org/topics/{TOPICS[diagnosis]}> ;"
        facts = [f"  :{relation} :{name(value)}" for relation, value in told(diagnosis).items()]
        yield " ;\n".join(facts) + " .\n"

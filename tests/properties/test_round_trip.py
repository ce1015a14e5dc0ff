"""Recipes as text and as models undo each other, and typos are understood."""

import random
import string

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from support.random_recipes import recipes

from recipec.component import components_of
from recipec.diagnostics.phrases import nearest
from recipec.reading.field_descriptions import keys_of, literals
from recipec.signals import SIGNALS
from recipec.spec.recipe import SLOTS, Budget, Evaluation, Recipe, Sampling, Stage
from recipec.yaml_io import from_yaml, to_yaml

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
SECTIONS = [
    Recipe,
    Stage,
    Budget,
    Evaluation,
    Sampling,
    *(cls for slot in SLOTS for cls in components_of(slot.name).values()),
]


@SLOW
@given(recipes(), st.booleans())
def test_text_of_a_recipe_reads_back_as_the_recipe(recipe, minimal):
    """``from_yaml(to_yaml(r)) == r``, minimal or full, whatever texts and numbers it holds, and written as before."""
    text = to_yaml(recipe, minimal=minimal)
    again = from_yaml(text)
    assert again == recipe
    assert to_yaml(again, minimal=minimal) == text


def typo(word: str, draw: random.Random) -> str:
    """Make one edit: a letter left out, put in, exchanged, or swapped with its neighbour."""
    at, letter = draw.randrange(len(word)), draw.choice(string.ascii_lowercase)
    made = draw.choice(
        [
            word[:at] + word[at + 1 :],
            word[:at] + letter + word[at:],
            word[:at] + letter + word[at + 1 :],
            word[:at] + word[at + 1 : at + 2] + word[at] + word[at + 2 :],
        ]
    )
    return made if made and made != word else typo(word, draw)


def _vocabularies() -> list[list[str]]:
    choices = [literals(info.annotation) for cls in SECTIONS for info in cls.model_fields.values()]
    found = [keys_of(cls) for cls in SECTIONS] + [list(components_of(slot.name)) for slot in SLOTS] + [list(SIGNALS)]
    return [words for words in found + choices if any(words)]  # a choice may be the empty text alone


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_typo_of_one_edit_is_understood(seed):
    """At least 97 of 100 one-edit typos over every key, component, signal and choice get the right name first."""
    draw = random.Random(seed)  # noqa: S311 - typos need no secrecy
    tried = right = 0
    for words in _vocabularies():
        for word in words:
            for _ in range(4):
                made = typo(word, draw)
                if made in words:
                    continue  # it is another legal word
                tried += 1
                right += nearest(made, words)[:1] == [word]
    assert tried > 1000
    assert right / tried >= 0.97

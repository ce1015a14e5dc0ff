"""Whatever a user writes in place of anything, reading answers with diagnostics."""

from copy import deepcopy

from hypothesis import HealthCheck, given, settings, strategies as st
from support.random_recipes import ANYTHING, TEXTS, TRICKY, recipes

from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe
from recipec.yaml_io import _block

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def _places(data, path=()):
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


@st.composite
def broken(draw):
    """Draw a recipe's data with a few places replaced, renamed or removed."""
    data = deepcopy(draw(recipes()).plain())
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(data))
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
        holder = data
        for step in path:
            holder = holder[step]
        deed = draw(st.sampled_from(["replace", "rename", "remove"]))
        if deed == "replace" or isinstance(holder, list):
            holder[last] = draw(ANYTHING | TRICKY)
        elif deed == "rename":
            holder[draw(TEXTS.filter(bool))] = holder.pop(last)
        else:
            del holder[last]
    return data


@FUZZ
@given(broken())
def test_reading_answers_with_diagnostics(data):
    """No exception, and either a recipe, a fragment, or an error that says why there is none."""
    text = "".join(f"{line}\n" for line in _block(data, 0))
    resolved = resolve(read_source("mine.yaml", text))
    reading = read_recipe(resolved)
    said = [*resolved.diagnostics, *reading.diagnostics]
    assert reading.recipe is not None or reading.fragment or any(d.is_error for d in said)
    for found in reading.diagnostics:
        assert found.spans
        assert found.message

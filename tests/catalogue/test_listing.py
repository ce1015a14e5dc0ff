"""What `ls`, `show` and `new` print and write."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipec.catalogue.listing import aligned, contract, keys, page, rows
from recipec.catalogue.starters import starter
from recipec.compile import compile_recipe
from recipec.component import components_of
from recipec.package_files import shipped

SHIPPED = sorted(
    p.relative_to(shipped("recipes")).with_suffix("").as_posix() for p in shipped("recipes").rglob("*.yaml")
)


@pytest.mark.parametrize(("what", "name"), [
    ("recipes", "algorithms/grpo"), ("components", "loss/clipped"), ("signals", "reward_R"), ("codes", "RC204"),
])  # fmt: skip
def test_lists_have_a_line_each(what: str, name: str) -> None:
    """Each list names its things at the start of a line, with a few words beside them."""
    lines = dict(line.split(maxsplit=1) for line in aligned(rows(what) or ()).splitlines())
    assert lines[name]


def test_unknown_names_have_no_page() -> None:
    """A list, page or starter of a name that does not exist is none."""
    assert rows("flavours") is None
    assert page("loss/none") is None
    assert starter("none", Path("r.yaml")) is None


def test_component_page_is_complete() -> None:
    """The page has the docstring, the signals with their conditions, and the type and default of each parameter."""
    text = str(page("loss/clipped"))
    assert "Clipped policy-gradient objective" in text
    assert "ref_logprob_RT (when beta is set)" in text
    assert "sampler_logprob_RT (when sampler_correction is mask)" in text
    assert "epsilon (a number above 0 and at most 1; default 0.2): Lower clip range: the ratio is" in text


def test_keys_in_words() -> None:
    """Keys show their type, and whether they are required, optional, or have a default."""
    found = {key.name: (key.type, key.presence) for key in keys(components_of("data")["reasoning_gym"])}
    assert found["task"] == ("a string", "required")
    assert found["template"] == ("a path", "optional")
    assert found["prompt_suffix"] == ("a string", 'default ""')
    refs = {key.name: key.type for key in keys(components_of("advantage")["rloo"])}
    assert refs["group"] == "the name of a signal"
    assert contract(components_of("advantage")["rloo"]) == (["value_R", "group_R", "failed_R"], ["advantage_R"])


@pytest.mark.parametrize("name", SHIPPED)
def test_starters_are_valid_where_they_land(name: str, tmp_path: Path) -> None:
    """A starter brings every file that it names, and its schema line is relative and points at a schema."""
    files = starter(name, tmp_path / "mine" / "recipe.yaml")
    assert files is not None
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    recipe = tmp_path / "mine" / "recipe.yaml"
    said = recipe.read_text("utf-8").splitlines()[0].partition("$schema=")[2]
    result = compile_recipe(recipe)

    assert [d.code for d in result.diagnostics if d.is_error] == []
    assert not Path(said).is_absolute()
    assert (recipe.parent / said).is_file()
    assert all((recipe.parent / template).is_file() for template in _templates(result.resolved.data))


def _templates(data: object) -> list[str]:
    if not isinstance(data, dict):
        return []
    return [v for k, v in data.items() if k == "template"] + [t for v in data.values() for t in _templates(v)]

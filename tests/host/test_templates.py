"""Templates: sandboxed, bounded in time, memory and output, and wrong ones named by their line."""

import time

import pytest
from support.small_recipes import ROWS, SFT
from transformers import AutoTokenizer

from recipec.diagnostics.model import RecipeError
from recipec.host import templates
from recipec.host.templates import render_rows, template_columns, template_problem


def refused(text, values=None):
    """Return the diagnostic that rendering gives."""
    with pytest.raises(RecipeError) as caught:
        render_rows(text, "prompts/a.j2", [values or {"question": "q"}], lambda _: "the values")
    return caught.value.diagnostics[0]


def test_rows_are_rendered_in_order():
    """Many rows give as many texts, unescaped, control blocks leaving no empty lines."""
    text = "{% for x in xs %}\n{{ x }}<\n{% endfor %}\n"
    made = render_rows(text, "a.j2", [{"xs": [i, i]} for i in range(200)])
    assert made == [f"{i}<\n{i}<\n" for i in range(200)]


def test_missing_column_is_named():
    """An unknown column gives its line, the row, and the column that was meant."""
    with pytest.raises(RecipeError) as caught:
        render_rows("\n{{ qestion }}", "a.j2", [{"question": "q"}], lambda i: f"row {i + 1} of t.jsonl")
    found = caught.value.diagnostics[0]
    assert (found.code, found.spans[0].file, found.spans[0].line) == ("RC711", "a.j2", 2)
    assert "row 1 of t.jsonl" in found.message
    assert "did you mean `question`?" in found.help


@pytest.mark.parametrize(
    ("text", "line"),
    [("{% if x %}", 1), ("a\n{{ x | nofilter }}", 2), ("\n\n{{ ", 3), ("{% include 'b' %}", 1), ("x" * 70_000, 1)],
)
def test_invalid_templates(text, line):
    """What is no template of ours is RC712 with its line, before anything is rendered."""
    found = template_problem(text, "a.j2")
    assert (found.code, found.spans[0].line) == ("RC712", line)
    assert refused(text).code == "RC712"


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ question.__init__.__globals__ }}",
        "{{ xs.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ question.nothing.more }}",
        "{{ range(10 ** 9) }}",
        "{{ 'a' * 10 ** 6 }}",
        "{{ 'a' * 10 ** 11 }}",
        "{{ 'x' | center(10 ** 7) }}",
    ],
)
def test_bombs_and_escapes(text):
    """Code, mutation and outsized output are refused with RC713."""
    assert refused(text, {"question": "q", "xs": []}).code == "RC713"


def test_null_is_not_printed():
    """A column with null is no text: it would stand in the prompt as the word None; templates may test for it."""
    rows = [{"question": "q", "input": "i"}, {"question": "q", "input": None}]
    with pytest.raises(RecipeError) as caught:
        render_rows("{{ question }}\n{{ input }}", "a.j2", rows, lambda i: f"row {i + 1} of t.jsonl")
    found = caught.value.diagnostics[0]
    assert (found.code, found.spans[0].line) == ("RC713", 2)
    assert "row 2 of t.jsonl" in found.message
    assert "prints null" in found.message
    for text in ("{{ question }}{% if input %} {{ input }}{% endif %}", "{{ question }}{{ ' ' ~ input if input }}"):
        assert render_rows(text, "a.j2", rows) == ["q i", "q"]


@pytest.mark.parametrize("text", ["{{ [a, b] | random }}", "{{ lipsum() }}"])
def test_a_template_that_draws_is_refused(text):
    """The prompt of a row is the same whenever it is read."""
    with pytest.raises(RecipeError) as caught:
        render_rows(text, "a.j2", [{"a": 1, "b": 2}])
    assert caught.value.diagnostics[0].code == "RC713"
    assert "draws at random" in caught.value.diagnostics[0].message


def test_endless_templates_are_killed(monkeypatch):
    """A template that would run for ever is stopped by the clock."""
    monkeypatch.setattr(templates, "SECONDS", 0.5)
    began = time.monotonic()
    text = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    found = refused(text)
    assert found.code == "RC713"
    assert "longer" in found.message
    assert time.monotonic() - began < 20


def test_columns_are_known_without_rendering():
    """The names that a template takes from outside can be listed."""
    assert template_columns("{% set a = 1 %}{{ a }}{{ b }}{{ range(2) }}") == {"b"}


@pytest.mark.parametrize("bomb", ["{{ 9**(9**(9**9)) }}", "{{ 'a' * 10**10 }}", "{% if 9**(9**(9**9)) %}{% endif %}"])
def test_columns_are_known_without_computing(bomb):
    """Constants of a template are not computed to know its columns: no limit would hold."""
    assert template_columns(bomb + "{{ question }}") == {"question"}


def test_templates_in_the_recipe_itself(folder):
    """A prompt template and a chat template may be text, also in a file that is extended from another folder."""
    (folder.path / "shared").mkdir()
    said = SFT.replace("recipec: 1\n", "recipec: 1\nextends: [shared/part.yaml]\n")
    said = said.replace(
        "data: {path: a.jsonl}", 'data: {path: a.jsonl, chat: true, template: "{{ prompt }}: {{ answer }}?"}'
    )
    (folder.path / "shared/part.yaml").write_text(
        "recipec: 1\nstages:\n  learn:\n    policy:\n      chat_template: |-\n"
        "        {% for m in messages %}{{ m.role }}> {{ m.content }}\n"
        "        {%- if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}\n"
        "        {%- if add_generation_prompt %}assistant> {% endif %}\n"
    )
    ended = folder.run(said, a__jsonl=ROWS)
    assert ended.code == 0, ended.err
    stage = folder.path / "runs/small/stages/learn"
    loaded = AutoTokenizer.from_pretrained(stage / "policy")
    shown = loaded.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)
    assert shown == "user> xassistant> "


def test_a_template_that_is_a_path_is_missed(folder):
    """What has neither a brace nor a line break names a file."""
    ended = folder.run(SFT.replace("path: a.jsonl", "path: a.jsonl, template: prompt.j2"), a__jsonl=ROWS)
    assert ended.code == 1
    assert "prompt.j2" in ended.err

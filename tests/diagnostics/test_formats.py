"""Diagnostics as text, one line each, JSON, GitHub annotations and SARIF."""

from __future__ import annotations

import json

import pytest

from recipec.diagnostics.formats import MOST, MOST_ANNOTATIONS, ordered, render
from recipec.diagnostics.model import Diagnostic, Fix, Span
from recipec.diagnostics.snippet import WIDTH, cells, excerpt, visible

TEXT = "a: 1\nadvantage: {group: by_tree_R}\n"
SPAN = Span("r.yaml", 2, 20, 2, 29)


def finding(**changes: object) -> Diagnostic:
    """One diagnostic, with some things changed."""
    told = {"message": "`by_tree_R` is missing", "spans": (SPAN,), "why": "because", "help": "do this", "path": "a.b"}
    return Diagnostic("RC204", "unmet-requirement", "error", **{**told, **changes})


def at(line: int, code: str = "RC204", severity: str = "error") -> Diagnostic:
    """A diagnostic on one line."""
    return Diagnostic(code, "x", severity, f"line {line}", (Span("r.yaml", line, 1, line, 2),))


def test_text_quotes_the_line_and_points() -> None:
    """The text form is the design's: code, place, line, caret, further places, why, help, explain, count."""
    other = Span("b.yaml", 9, 20, 9, 25, "the sampler of this stage is `chain`")
    expected = """\
error[RC204]: `by_tree_R` is missing
 --> r.yaml:2:20
  |
2 | advantage: {group: by_tree_R}
  |                    ^^^^^^^^^
 --> b.yaml:9:20    the sampler of this stage is `chain`
  = why: because
  = help: do this
  = explain: recipec explain RC204

1 error"""
    assert render([finding(spans=(SPAN, other))], {"r.yaml": TEXT}, valid=False) == expected


def test_text_does_without_the_file() -> None:
    """A place in a file whose text is not at hand is named and not quoted; no place is no arrow."""
    assert "^" not in render([finding()], {}, valid=False)
    assert "-->" not in render([finding(spans=())], {}, valid=False)


def test_nothing_is_nothing() -> None:
    """No diagnostics are no text, no line, and a valid JSON object."""
    assert render([], {}, valid=True) == ""
    assert render([], {}, "concise", valid=True) == ""
    assert json.loads(render([], {}, "json", valid=True)) == {"format_version": "1", "valid": True, "diagnostics": []}


def test_sorted_and_once() -> None:
    """Diagnostics come in the order of the file, each once."""
    assert [d.spans[0].line for d in ordered([at(3), at(1), at(3), at(2)])] == [1, 2, 3]


def test_many_are_counted() -> None:
    """People see at most fifty at a time, and how many more there are."""
    text = render([at(i) for i in range(1, MOST + 8)], {}, valid=False)
    assert text.count("error[RC204]") == MOST
    assert "… and 7 more" in text
    assert text.endswith(f"{MOST + 7} errors")


def test_control_and_bidi_characters_are_escaped() -> None:
    """Nothing of the user's text reaches the terminal as a command or turns the line around."""
    line = "name: \x1b[31m\u202eevil\u2066\x07"
    text = render([finding(message=line, spans=(Span("r.yaml", 1, 7, 1, 8),))], {"r.yaml": line}, valid=False)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\u202eevil\\u2066\\x07" in text
    assert "  |       ^^^^" in text, "the caret spans the escaped character"


def test_concise_is_one_line_each() -> None:
    """The concise form is file, line, column, code, message; line breaks of messages are escaped."""
    assert render([finding(message="a\nb")], {}, "concise", valid=False) == "r.yaml:2:20: error RC204 a\\nb"


def test_json_is_the_contract() -> None:
    """The JSON form has the keys of the design and nothing else."""
    fix = Fix("write it", SPAN, "by_prompt_R")
    made = json.loads(render([finding(fix=fix)], {}, "json", valid=False))
    span = {"file": "r.yaml", "line": 2, "column": 20, "end_line": 2, "end_column": 29, "label": ""}
    assert made == {
        "format_version": "1",
        "valid": False,
        "diagnostics": [
            {
                "code": "RC204",
                "name": "unmet-requirement",
                "severity": "error",
                "path": "a.b",
                "message": "`by_tree_R` is missing",
                "why": "because",
                "help": "do this",
                "spans": [span],
                "fix": {"message": "write it", "span": span, "text": "by_prompt_R"},
            }
        ],
    }


def test_github_escapes_what_workflows_obey() -> None:
    """Percent signs, line breaks and, in properties, colons and commas are escaped."""
    span = Span("a,b:c.yaml", 1, 2, 1, 4)
    text = render([finding(message="50%\r\n::set-env", spans=(span,), help="")], {}, "github", valid=False)
    assert text == (
        "::error title=RC204 unmet-requirement,file=a%2Cb%3Ac.yaml,line=1,col=2,endLine=1,endColumn=4"
        "::50%25%0D%0A::set-env"
    )


def test_github_shows_ten_of_a_severity() -> None:
    """More than ten annotations of a severity are counted, as GitHub would drop them."""
    many = [at(i) for i in range(1, 14)] + [at(i, "RC405", "warning") for i in range(1, 4)]
    lines = render(many, {}, "github", valid=False).split("\n")
    assert sum(line.startswith("::error") for line in lines) == MOST_ANNOTATIONS
    assert sum(line.startswith("::warning") for line in lines) == 3
    assert "::notice title=recipec::3 more errors not shown here" in lines


def test_sarif_names_rules_and_places() -> None:
    """The SARIF form has one rule a code and one result a diagnostic, with the further places as related ones."""
    made = json.loads(render([finding(spans=(SPAN, SPAN.labelled("here"))), at(1)], {}, "sarif", valid=False))
    run = made["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["RC204"]
    assert [len(result["relatedLocations"]) for result in run["results"]] == [0, 1]
    assert run["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"] == 1


TEXTS = {
    "type": "object",
    "required": ["text"],
    "additionalProperties": False,
    "properties": {"text": {"type": "string"}},
}
PLACE = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "message": TEXTS,
        "physicalLocation": {
            "type": "object",
            "required": ["artifactLocation"],
            "additionalProperties": False,
            "properties": {
                "artifactLocation": {"type": "object", "properties": {"uri": {"type": "string"}}},
                "region": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
            },
        },
    },
}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name"],
                                "properties": {
                                    "rules": {
                                        "uniqueItems": True,
                                        "items": {
                                            "required": ["id"],
                                            "properties": {
                                                "shortDescription": TEXTS,
                                                "fullDescription": TEXTS,
                                                "help": TEXTS,
                                                "defaultConfiguration": {"properties": {"level": LEVEL}},
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "items": {
                            "required": ["message"],
                            "properties": {
                                "message": TEXTS,
                                "level": LEVEL,
                                "locations": {"items": PLACE},
                                "relatedLocations": {"items": PLACE, "uniqueItems": True},
                            },
                        }
                    },
                },
            },
        },
    },
}
"""What SARIF 2.1.0 requires of the objects that are written here (OASIS, sections 3.13 to 3.30)."""


def test_sarif_is_what_the_standard_requires() -> None:
    """Every object has what it must have, counts begin at 1, and every result has its rule."""
    jsonschema = pytest.importorskip("jsonschema")
    found = [finding(spans=(SPAN, SPAN.labelled("here"))), at(1), at(3, "RC405", "warning"), finding(spans=())]
    made = json.loads(render(found, {"r.yaml": TEXT}, "sarif", valid=False))
    jsonschema.validate(made, SARIF)
    run = made["runs"][0]
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {one["ruleId"] for one in run["results"]}


def test_colour_is_markup_only_when_asked() -> None:
    """Colour makes rich markup; brackets of the user's text stay text."""
    from rich.text import Text

    plain = render([finding(message="[red]x[/red]")], {"r.yaml": TEXT}, valid=False)
    marked = render([finding(message="[red]x[/red]")], {"r.yaml": TEXT}, valid=False, colour=True)
    assert "[bold red]" not in plain
    assert Text.from_markup(marked).plain == plain


@pytest.mark.parametrize("column", [0, 5, 200, 395])
def test_long_lines_are_cut_around_the_caret(column: int) -> None:
    """However long a line is, what it is about is in view, and the caret stands below it."""
    line = "x" * column + "HERE" + "y" * (400 - column)
    shown, before, under = excerpt(line, column, column + 4)
    assert cells(shown) <= WIDTH
    assert shown[before : before + under] == "HERE"


def test_tabs_and_wide_characters_are_measured() -> None:
    """A tab is four cells, a wide character two, a combining one none."""
    assert excerpt("\t試e\u0301: x", 4, 5)[1:] == (7, 1)
    assert visible("試 é") == "試 é"


def test_a_caret_beyond_the_line_stays_on_it() -> None:
    """A place at the end of a line gets one caret there."""
    assert excerpt("abc", 9, 12) == ("abc", 3, 1)


def test_access_tokens_are_covered() -> None:
    """A line with an access token is quoted without it, and the caret stays where it was."""
    line = "hub: hf_abcdefghijklmnopqrstuv # mine"
    text = render([finding(spans=(Span("r.yaml", 1, 6, 1, 31),))], {"r.yaml": line}, valid=False)
    assert "hub: hf_" in text
    assert "abcdefgh" not in text
    assert "  |      " + "^" * 25 in text

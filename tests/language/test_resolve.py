"""Includes, overrides and references, with the places they came from."""

import os
import time
from pathlib import Path

import pytest
from support.resolved_text import at, codes, load, only

from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source

LR = ("stages", "explore", "optimizer", "learning_rate")


def test_mappings_merge_lists_replace_null_removes(project):
    """A recipe is laid on what it extends, in order."""
    project(
        one="a: {x: 1, y: 2}\nl: [1, 2]\n",
        two="a: {y: 3, z: 4}\nextends: three\n",
        three="a: {w: 0, z: 0}\n",
        r="extends: [one.yaml, two]\na: {x: null, v: 5}\nl: [3]\nn: null\n",
    )
    resolved = resolve(read_source("r.yaml"))
    assert resolved.data == {"a": {"y": 3, "w": 0, "z": 4, "v": 5}, "l": [3], "n": None}
    assert resolved.files == ("r.yaml", "one.yaml", "two.yaml", "three.yaml")
    assert resolved.is_fragment


def test_a_changed_type_replaces_the_mapping(project):
    """Parameters of another component do not stay behind; the same type, or none, merges."""
    project(frag="loss: {type: clipped, epsilon: 0.2}\ndata: {type: file, path: x}\n")
    resolved = load(
        "stages:\n  s:\n    extends: frag\n    loss: {type: nll}\n    data: {path: y}\n", "stages.s.data.type=file"
    )
    assert resolved.data["stages"]["s"] == {"loss": {"type": "nll"}, "data": {"type": "file", "path": "y"}}
    assert load("stages: {s: {extends: frag}}", "stages.s.loss.type=nll").data["stages"]["s"]["loss"] == {"type": "nll"}


def test_references_keep_type_and_both_places(project):
    """The use is the primary place, the definition is shown after it."""
    project(frag='optimizer: {learning_rate: "${vars.lr}"}\n')
    resolved = load("vars: {lr: 1e-5}\nstages:\n  explore: {extends: frag}\n")
    assert resolved.data["stages"]["explore"]["optimizer"]["learning_rate"] == 1e-5
    assert [at(span) for span in resolved.spans(LR)] == [
        ("frag.yaml", 1, 28, 40),
        ("r.yaml", 1, 12, 16),
        ("r.yaml", 3, 22, 26),
    ]
    assert [span.label for span in resolved.spans(LR)] == ["", "`vars.lr` is defined here", "included from here"]
    assert resolved.references[LR] == (("vars", "lr"),)
    assert resolved.file(LR) == "r.yaml"


def test_references_reach_any_key_and_stand_inside_text():
    """Mappings, items of lists and values of stages can be named; texts are joined."""
    resolved = load(
        "vars: {l: [1, {x: 2}], m: {r: 8}, n: null, t: true}\n"
        "stages: {e: {temperature: 0.7}}\n"
        "a: ${vars.l.1.x}\nb: ${vars.m}\nc: ${stages.e.temperature}\nd: p-${vars.m.r}-${a}\n"
        "e: ${b.r}\nf: ${vars.l}\ng: ${vars.n}\nh: ${vars.t}\n"
    )
    assert resolved.diagnostics == ()
    assert {key: resolved.data[key] for key in "abcdefgh"} == {
        "a": 2, "b": {"r": 8}, "c": 0.7, "d": "p-8-2", "e": 8, "f": [1, {"x": 2}], "g": None, "h": True,
    }  # fmt: skip
    assert [at(span)[1:3] for span in resolved.spans(("b", "r"))] == [(1, 31), (4, 4)]
    assert resolved.spans(("b", "r"))[1].label == "used through `${vars.m}` here"


def test_escaped_references_are_text():
    r"""`\${` gives the characters themselves."""
    assert load("stages: {}\na: x \\${vars.q} y\n").data["a"] == "x ${vars.q} y"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("a: ${oc.env:HOME}", "RC118", "resolver"),
        ("a: ${now:}", "RC118", "resolver"),
        ("a: ${vars.}", "RC118", "names joined by dots"),
        ("a: ${}", "RC118", "names joined by dots"),
        ("a: x ${b", "RC118", "missing"),
        ("a: ${.b}", "RC118", "top of the recipe"),
        ("a: ${b.${c}}", "RC118", "inside references"),
        ("a: ${b", "RC118", "missing"),
    ],
)
def test_only_plain_references_are_allowed(text, code, says):
    """Nothing reads the environment, and what is no reference says why."""
    resolved = load(f"stages: {{}}\nb: 1\n{text}\n")
    assert says in only(resolved, code).message
    assert ("a",) in resolved.unknown
    assert resolved.data["b"] == 1


def test_unknown_references_suggest_and_point_at_themselves():
    """The span is the reference inside its text."""
    found = only(load("stages: {}\nvars: {rate: 1}\na: x ${vars.rat} y\n"), "RC127")
    assert (at(found.spans[0]), found.help) == (("r.yaml", 3, 8, 16), "did you mean `vars.rate`?")
    assert only(load("stages: {}\nvars: {rate: 1}\na: ${rate}\n"), "RC127").help == "did you mean `vars.rate`?"


def test_a_fragment_may_refer_to_its_recipe():
    """What a fragment refers to comes from the recipe that includes it."""
    resolved = load("loss: {beta: '${vars.beta}'}")
    assert resolved.is_fragment
    assert resolved.diagnostics == ()
    assert resolved.unknown == {("loss", "beta")}


@pytest.mark.parametrize(
    "text",
    ["a: ${a}", "a: ${b}\nb: ${a}", "a: {b: '${a}'}", "a: ${b.c}\nb: {c: {d: '${a}'}}", "a: ${b.x}\nb: ${a}",
     "a: ['${a}']"],
)  # fmt: skip
def test_circles_of_references_are_found_once(text):
    """Also those that go through the mapping or list that holds them."""
    resolved = load(f"stages: {{}}\n{text}\nc: ${{a}}\n")
    found = only(resolved, "RC128")
    assert " → " in found.message
    assert ("c",) in resolved.unknown


@pytest.mark.parametrize(
    "lines",
    [
        [f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}" for i in range(1, 15)],
        [*(f"a{i}: ${{a{i + 1}}}${{a{i + 1}}}" for i in range(1, 14)), "a14: " + "x" * 30],
        [f"a{i}: {{x: '${{a{i - 1}}}', y: '${{a{i - 1}}}'}}" for i in range(1, 15)],
        [f"a{i}: ${{a{i - 1}}}" for i in range(1, 400)],
        [f"a{i}: ${{a0}}" for i in range(1, 1100)],
        ["a: " + "${a0}" * 1001],
        [f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}" for i in range(1, 3000)],
    ],
)
def test_growth_is_refused_before_anything_is_resolved(lines):
    """Doubling texts, doubling mappings and long chains cost nothing but a diagnostic."""
    start = time.process_time()
    resolved = load("stages: {}\na0: " + "x" * 30 + "\n" + "\n".join(lines))
    only(resolved, "RC103")
    assert time.process_time() - start < 1
    assert resolved.unknown == set(resolved.references)


def test_many_wrong_references_are_said_quickly():
    """Thousands of mistakes take no longer than thousands of lines."""
    start = time.process_time()
    text = "stages: {}\nvars: {" + ", ".join(f"k{i}: {i}" for i in range(3000)) + "}\n"
    resolved = load(text + "\n".join(f"a{i}: ${{vars.q{i}}}" for i in range(3000)))
    assert len(resolved.diagnostics) == 3000
    assert time.process_time() - start < 2


def test_nearest_span_of_what_is_absent():
    """A missing key points at the key of the mapping that lacks it; a missing top-level key at the first."""
    resolved = load("recipec: 1\nstages:\n  s: {loss: {beta: 1}}\n")
    assert at(resolved.span(("stages", "s", "loss", "epsilon", "x"))) == ("r.yaml", 3, 7, 11)
    assert at(resolved.span(("name",))) == ("r.yaml", 1, 1, 8)
    assert resolved.file(("name",)) == "r.yaml"


def test_a_file_that_is_not_there_still_resolves():
    """Overrides are checked even then, and every place has a span."""
    resolved = resolve(read_source("nowhere.yaml"), ["seed"])
    assert codes(resolved) == ["RC101", "RC125"]
    assert resolved.data == {}
    assert resolved.span(("a",)).file == "nowhere.yaml"


def test_a_broken_recipe_is_not_complete():
    """After a syntax error nothing is said to be missing or unknown."""
    resolved = load("stages: {}\na: ${later}\nb: [\n")
    assert codes(resolved) == ["RC105"]
    assert not resolved.complete
    assert not resolved.is_fragment


def test_reading_is_hermetic(project, monkeypatch):
    """Nothing but the recipe's own files is opened, and the environment is not read."""
    import sys

    project(frag="loss: {beta: '${vars.b}'}\n", r="vars: {b: 1}\nstages: {s: {extends: frag}}\n")
    resolve(read_source("r.yaml"))  # imports are done
    opened: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in {"open", "socket.connect", "subprocess.Popen", "os.system", "import"}:
            opened.append(f"{event} {Path(str(arguments[0])).name}")

    class NoEnvironment(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            raise AssertionError(key)

        get = __getitem__  # type: ignore[assignment]

    monkeypatch.setattr(os, "environ", NoEnvironment())
    sys.addaudithook(watch)
    resolve(read_source("r.yaml"), ["vars.b=2"])
    watching = False
    assert opened == ["open r.yaml", "open frag.yaml"]


def test_listing_names_the_origin_of_every_value():
    """One line a value: path, value, place."""
    lines = load("stages: {}\na: {b: [1, 2]}\n", "c=1").listing().split("\n")
    assert [line.split() for line in lines] == [
        ["stages:", "{}", "#", "r.yaml:1:9"],
        ["a.b:", "[1,", "2]", "#", "r.yaml:2:8"],
        ["c:", "1", "#", "<command", "line>:1:3"],
    ]


def test_a_text_full_of_mistakes_shows_a_few():
    """A hundred thousand mistakes in one text cost no more than five."""
    start = time.process_time()
    assert set(codes(load("stages: {}\na: " + "${" * 300_000))) == {"RC118"}
    assert time.process_time() - start < 1

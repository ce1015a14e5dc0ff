"""Includes, overrides and references, with the places they came from."""

import os
import time
from pathlib import Path

import pytest

from recipec.diagnostics import COMMAND_LINE, Span
from recipec.resolve import Resolved, resolve
from recipec.source import read_source

LR = ("stages", "explore", "optimizer", "learning_rate")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a function that writes files into a project and the working directory."""
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for name, text in files.items():
            path = Path(name.replace("__", "/") + ".yaml")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return write


def load(text: str, *overrides: str) -> Resolved:
    """Resolve a text."""
    return resolve(read_source("r.yaml", text), overrides)


def codes(resolved: Resolved) -> list[str]:
    """Return the codes found, in order."""
    return [diagnostic.code for diagnostic in resolved.diagnostics]


def only(resolved: Resolved, code: str):
    """Return the one diagnostic, which has this code."""
    assert codes(resolved) == [code]
    return resolved.diagnostics[0]


def at(span: Span) -> tuple[str, int, int, int]:
    """Return file, line and columns."""
    return span.file, span.line, span.column, span.end_column


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
    """Knobs of another component do not stay behind; the same type, or none, merges."""
    project(frag="loss: {type: clipped, epsilon: 0.2}\ndata: {type: file, path: x}\n")
    resolved = load(
        "stages:\n  s:\n    extends: frag\n    loss: {type: nll}\n    data: {path: y}\n", "stages.s.data.type=file"
    )
    assert resolved.data["stages"]["s"] == {"loss": {"type": "nll"}, "data": {"type": "file", "path": "y"}}
    assert load("stages: {s: {extends: frag}}", "stages.s.loss.type=nll").data["stages"]["s"]["loss"] == {"type": "nll"}


def test_a_stage_extends_fragments_and_drops_their_version(project):
    """Fragments fill slots of the stage; a base recipe's stage lies under the fragment."""
    project(
        frag="recipec: 1\nloss: {epsilon: 0.2}\n",
        base="recipec: 1\nstages:\n  s: {kind: rl, loss: {epsilon: 0.1, beta: 1}}\n",
    )
    resolved = load("extends: [base]\nstages:\n  s:\n    extends: [frag]\n    kind: rl\n")
    assert resolved.data == {"recipec": 1, "stages": {"s": {"kind": "rl", "loss": {"epsilon": 0.2, "beta": 1}}}}
    assert not resolved.is_fragment
    assert codes(resolved) == []


def test_paths_are_relative_to_the_file_that_says_them(project):
    """A fragment in a folder extends its neighbour, and says where its values were said."""
    project(lib__a="extends: b\nx: 1\n", lib__b="y: 2\n", recipes__r="extends: ../lib/a.yaml\nz: 3\n")
    resolved = resolve(read_source("recipes/r.yaml"))
    assert resolved.data == {"y": 2, "x": 1, "z": 3}
    assert [resolved.file((key,)) for key in "xyz"] == ["lib/a.yaml", "lib/b.yaml", "recipes/r.yaml"]
    assert [at(span)[:2] for span in resolved.spans(("y",))] == [
        ("lib/b.yaml", 1),
        ("lib/a.yaml", 1),
        ("recipes/r.yaml", 1),
    ]
    assert resolved.spans(("y",))[1].label == "included from here"
    assert resolved.text("lib/b.yaml") == "y: 2\n"


def test_shipped_recipes_are_found_anywhere(tmp_path, monkeypatch):
    """`recipec:` names the package's recipes, from any project, under a name that holds on every machine."""
    monkeypatch.setattr("recipec.include.shipped", lambda folder: tmp_path / "installed" / folder)
    (tmp_path / "installed" / "recipes" / "algorithms").mkdir(parents=True)
    (tmp_path / "installed" / "recipes" / "algorithms" / "grpo.yaml").write_text("extends: more\nloss: {beta: 0}\n")
    (tmp_path / "installed" / "recipes" / "algorithms" / "more.yaml").write_text("loss: {epsilon: 0.2}\n")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    resolved = load("stages: {s: {extends: 'recipec:algorithms/grpo'}}")
    assert resolved.data["stages"]["s"]["loss"] == {"epsilon": 0.2, "beta": 0}
    assert resolved.file(("stages", "s", "loss", "epsilon")) == "recipec:algorithms/more.yaml"
    missing = only(load("stages: {s: {extends: 'recipec:algorithms/gpro'}}"), "RC120")
    assert "`recipec:algorithms/grpo`" in missing.help
    assert codes(load("stages: {s: {extends: 'recipec:../../secret'}}")) == ["RC121"]
    assert codes(load("stages: {s: {extends: 'recipec:/etc/passwd'}}")) == ["RC121"]


def test_includes_stay_inside_the_project(project, tmp_path):
    """Paths out of the project, and links out of it, are refused without being opened."""
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.yaml").write_text("a: 1\n")
    project(r="a: 1\n")
    Path("link.yaml").symlink_to(outside / "secret.yaml")
    Path("folder").symlink_to(outside)
    assert codes(load(f"extends: ../{outside.name}/secret.yaml")) == ["RC121"]
    assert codes(load("extends: /etc/passwd")) == ["RC121"]
    assert codes(load("extends: link.yaml")) == ["RC122"]
    assert codes(load("extends: folder/secret")) == ["RC122"]
    assert codes(load(f"extends: {tmp_path}/r.yaml")) == []


def test_without_a_project_the_root_is_the_folder_of_the_recipe(tmp_path, monkeypatch):
    """A recipe that was sent alone may read its own folder only."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "other.yaml").write_text("a: 1\n")
    monkeypatch.chdir(tmp_path)
    assert codes(resolve(read_source("sub/r.yaml", "extends: ../other"))) == ["RC121"]


def test_circles_of_files_are_shown(project):
    """The circle is named, at the entry that closes it, with the way there."""
    project(a="extends: b\nx: 1\n", b="extends: a\ny: 2\n")
    found = only(resolve(read_source("a.yaml")), "RC123")
    assert found.message.endswith("a.yaml → b.yaml → a.yaml")
    assert [span.file for span in found.spans] == ["b.yaml", "a.yaml"]


def test_includes_are_counted(project):
    """Neither many files nor few files again and again are read without end."""
    project(**{f"f{i}": f"x{i}: 1\n" for i in range(40)})
    assert codes(load("extends: [" + ", ".join(f"f{i}" for i in range(40)) + "]")) == ["RC124"]
    assert codes(load("extends: [" + ", ".join(f"f{i}" for i in range(32)) + "]")) == []
    project(**{f"d{i}": f"extends: [d{i + 1}, d{i + 1}]\n" for i in range(20)}, d20="x: 1\n")
    start = time.process_time()
    assert codes(load("extends: d0")) == ["RC124"]
    assert time.process_time() - start < 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: {a: 1}", "paths of files"),
        ("extends: [1]", "paths of files"),
        ("extends: ['']", "paths of files"),
        ("extends: '${vars.x}'\nvars: {x: f}", "before any reference"),
        ("stages: {s: {extends: whole}}", "whole recipe"),
    ],
)
def test_extends_takes_paths(project, text, says):
    """Anything else is said, and nothing is missing for it later."""
    project(whole="stages: {}\n")
    resolved = load(text)
    assert says in only(resolved, "RC119").message
    assert not resolved.complete


def test_errors_in_includes_show_the_chain(project):
    """A syntax error in a fragment points into it, then to who included it."""
    project(frag="loss: {a: 1\n", r="stages:\n  s: {extends: frag}\n")
    found = only(resolve(read_source("r.yaml")), "RC105")
    assert found.spans[0].file == "frag.yaml"
    assert at(found.spans[-1]) == ("r.yaml", 2, 16, 20)


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
        ("a: ${oc.env:HOME}", "RC113", "resolver"),
        ("a: ${now:}", "RC113", "resolver"),
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
    assert (at(found.spans[0]), found.help) == (("r.yaml", 3, 8, 16), "did you mean `rate`?")
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
        [f"a{i}: ${{a{i - 1}}}${{a{i - 1}}}" for i in range(1, 3000)],
    ],
)
def test_growth_is_refused_before_anything_is_resolved(lines):
    """Doubling texts, doubling mappings and long chains cost nothing but a diagnostic."""
    start = time.process_time()
    resolved = load("stages: {}\na0: " + "x" * 30 + "\n" + "\n".join(lines))
    only(resolved, "RC129")
    assert time.process_time() - start < 1
    assert resolved.unknown == set(resolved.references)


def test_many_wrong_references_are_said_quickly():
    """Thousands of mistakes take no longer than thousands of lines."""
    start = time.process_time()
    text = "stages: {}\nvars: {" + ", ".join(f"k{i}: {i}" for i in range(3000)) + "}\n"
    resolved = load(text + "\n".join(f"a{i}: ${{vars.q{i}}}" for i in range(3000)))
    assert len(resolved.diagnostics) == 3000
    assert time.process_time() - start < 2


def test_overrides_are_read_like_files():
    """Values are YAML 1.2; the last one wins; mappings merge; null removes; the place is on the command line."""
    text = (
        "stages:\n  explore:\n    optimizer: {type: adamw, learning_rate: 1}\n    loss: {beta: 1}\n    l: [1, {q: 2}]\n"
    )
    resolved = load(
        text,
        "stages.explore.optimizer.learning_rate=2",
        "stages.explore.optimizer.learning_rate=1e-5",
        "stages.explore.loss=null",
        "stages.explore.optimizer={weight_decay: no}",
        "stages.explore.l.1.q=3",
        "machine.devices=2",
        "name= größe ",
    )
    assert resolved.diagnostics == ()
    assert resolved.data == {
        "stages": {
            "explore": {"optimizer": {"type": "adamw", "learning_rate": 1e-5, "weight_decay": "no"}, "l": [1, {"q": 3}]}
        },
        "machine": {"devices": 2},
        "name": "größe",
    }
    assert at(resolved.span(LR)) == (COMMAND_LINE, 2, 40, 44)
    assert at(resolved.span(LR, key=True)) == (COMMAND_LINE, 2, 26, 39)
    assert resolved.text(COMMAND_LINE).split("\n")[1][39:43] == "1e-5"
    assert at(resolved.span(("name",))) == (COMMAND_LINE, 7, 7, 12)
    assert resolved.span(("stages", "explore", "optimizer")).file == "r.yaml"
    assert at(resolved.span(("stages", "explore", "missing")))[:3] == ("r.yaml", 2, 3)


def test_overrides_may_refer():
    """A `${…}` in an override is a reference like any other."""
    assert load("stages: {}\nvars: {a: 1}\n", "b=${vars.a}", "vars.a=2").data["b"] == 2


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("seed", "RC125"), ("=1", "RC125"), ("a..b=1", "RC125"), (" a=1", "RC125"), ("seed=", "RC125"),
        ("extends=[x]", "RC125"), (".".join("a" * 40) + "=1", "RC125"),
        ("stages.explor.x=1", "RC126"), ("stages.explore.nope=null", "RC126"), ("seed.x=1", "RC126"),
        ("stages.explore.l.7=1", "RC126"), ("stages.explore.l.x=1", "RC126"), ("stages.explore.l.0=null", "RC126"),
        ("stages.explore.m.r=1", "RC126"),
        ("seed={a: 1", "RC105"), ("seed=!x 1", "RC108"), ("seed={a: ${b}}", "RC106"), ("seed=\x07", "RC104"),
    ],
)  # fmt: skip
def test_bad_overrides_are_coded_and_change_nothing_else(argument, code):
    """Each points at its own line of the command line."""
    text = "seed: 0\nb: 1\nvars: {m: {r: 1}}\nstages: {explore: {l: [1], m: '${vars.m}'}}\n"
    resolved = load(text, "ok=1", argument)
    found = only(resolved, code)
    assert (found.spans[0].file, found.spans[0].line) == (COMMAND_LINE, 2)
    assert resolved.data["ok"] == 1
    assert resolved.data["stages"]["explore"]["l"] == [1]


def test_unknown_stages_are_suggested():
    """A typing mistake in the name of a stage does not make a new stage."""
    resolved = load("stages: {explore: {kind: rl}}", "stages.explor.kind=sft")
    assert only(resolved, "RC126").help == "did you mean `explore`?"
    assert list(resolved.data["stages"]) == ["explore"]
    assert codes(load("stages: {explore: {kind: rl}}", "stages.more={kind: sft}")) == []


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

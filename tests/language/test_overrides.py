"""`--set path=value`: read like files, placed on the command line."""

import pytest
from support.resolved_text import at, codes, load, only

from recipec.diagnostics.model import COMMAND_LINE

LR = ("stages", "explore", "optimizer", "learning_rate")


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
        ("stages.explor.x=1", "RC125"), ("stages.explore.nope=null", "RC125"), ("seed.x=1", "RC125"),
        ("stages.explore.l.7=1", "RC125"), ("stages.explore.l.x=1", "RC125"), ("stages.explore.l.0=null", "RC125"),
        ("stages.explore.m.r=1", "RC125"),
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
    assert only(resolved, "RC125").help == "did you mean `explore`?"
    assert list(resolved.data["stages"]) == ["explore"]
    assert codes(load("stages: {explore: {kind: rl}}", "stages.more={kind: sft}")) == []

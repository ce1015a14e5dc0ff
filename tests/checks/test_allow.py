"""What a stage can allow."""

from __future__ import annotations

import pytest

from recipec.checks.run_checks import check_all
from recipec.diagnostics.model import Diagnostic
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe

RECIPE = """\
recipec: 1
name: allowing
stages:
  explore:
    kind: rl
    from: org/model
    data: {path: tasks.jsonl}
    sampler: {num_generations: 8, top_p: 0.95}
    reward: {right: {type: exact_match}}
    advantage: {group: {type: group_relative}}
    loss: {type: clipped}
    optimizer: {learning_rate: 1.0e-6}
    budget: {steps: 10, prompts_per_step: 8}
    allow: {%s}
"""


def diagnosed(entry: str) -> tuple[str, list[Diagnostic]]:
    """Check a recipe in which the warning RC405 is due, with one entry of `allow`."""
    text = RECIPE % entry
    reading = read_recipe(resolve(read_source("r.yaml", text)))
    return text, [*reading.diagnostics, *check_all(reading)]


def test_a_warning_with_a_reason_is_left_out():
    """The warning is not reported."""
    assert diagnosed('RC405: "published so"')[1] == []


@pytest.mark.parametrize(
    ("entry", "under", "problem", "remedy"),
    [
        ('RC405: ""', '""', "has no reason", "why it is meant"),
        ("RC405: 3", "3", "has no reason", "why it is meant"),
        ("RC406x: why", "RC406x", "no such code", "did you mean `RC406`"),
        ("RC999: why", "RC999", "no such code", ""),
        ("RC404: why", "RC404", "is an error", "fix the error"),
        ("RC763: why", "RC763", "is an error", "fix the error"),
        ("RC865: why", "RC865", "retired and now part of RC862", "recipec explain RC862"),
    ],
)
def test_what_cannot_be_allowed(entry: str, under: str, problem: str, remedy: str):
    """Each bad entry is one error under its own text, with what to do; the warning is still reported."""
    text, found = diagnosed(entry)
    bad, *others = sorted(found, key=lambda one: one.code)
    assert [bad.code, *(one.code for one in others)] == ["RC146", "RC405"]
    assert problem in bad.message
    assert remedy in bad.help
    span = bad.spans[0]
    assert text.split("\n")[span.line - 1][span.column - 1 : span.end_column - 1] == under

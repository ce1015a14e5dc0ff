"""The suites beside this file, run through the whole front end."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.diagnostic_suites import Case, cases, diagnose, located, wording

from recipec.catalogue.code_pages import all_codes

CASES = cases()
NOT_IN_SUITES = {
    "RC101": "a file that is not there: no text",
    "RC102": "bytes that are no text",
    "RC104": "characters that must not stand in a page",
    "RC125": "speaks of the command line",
    "RC151": "needs an installed package",
    "RC170": "a whole file of another tool: tests/importing/test_import.py",
    "RC502": "needs an engine of another package, ours use any number of devices: tests/plugin/test_plugin.py",
    "RC501": "every component of ours has an implementation: tests/passes/test_check.py",
    "RC509": "every engine of ours has an implementation: tests/run/test_bad_runs.py",
    "RC510": "speaks of a run: tests/test_bad_runs.py",
    "RC539": "speaks of a run: tests/runtime/distributed/test_units.py",
    "RC511": "speaks of a run: tests/test_bad_vision.py",
    "RC439": "our samplers know their limits: tests/checks/test_run_checks.py",
    "RC407": "no component of ours gives credit to tokens: tests/passes/test_check.py",
}
"""Codes without a recipe in the suites, and why."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_exactly_what_is_said(case: Case, tmp_path: Path) -> None:
    """A recipe of a suite gives the codes written beside its lines, there, and nothing else."""
    found, texts = diagnose(case.text, case.base, tmp_path)
    assert located(found) == case.wanted, wording(found, texts, tmp_path)
    if case.wording:
        assert wording(found, texts, tmp_path) == case.wording


def test_every_code_has_a_bad_recipe() -> None:
    """Every code of reading, wiring, stages, numerics and machine occurs in the suites, or is listed with a reason."""
    shown = {code for case in CASES for _, _, code in case.wanted}
    asked = {code for code in all_codes() if code[2] in "12345"}
    assert asked - shown == set(NOT_IN_SUITES)


def test_every_suite_has_good_recipes() -> None:
    """Each suite shows recipes in which nothing is wrong, next to those in which something is."""
    for path in {case.id.partition(":")[0] for case in CASES}:
        own = [case for case in CASES if case.id.startswith(f"{path}:")]
        assert any(not case.wanted for case in own)
        assert any(case.wanted for case in own)

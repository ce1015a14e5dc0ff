"""Pages of codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.catalogue.code_pages import all_codes, page
from recipec.diagnostics.codes import RETIRED
from recipec.diagnostics.model import HELP, WHY, sections

ROOT = Path(__file__).parents[2]
CODES = all_codes()


@pytest.mark.parametrize("code", CODES)
def test_pages_have_their_sections(code: str) -> None:
    """Every page begins with a sentence and has a reason, an example and a remedy; a check says what it compares."""
    found = sections(CODES[code].page)
    needed = [WHY, "Example", HELP] + ["What it checks"] * CODES[code].owner.startswith("recipec.checks.")
    assert found[""].endswith(".")
    assert [title for title in needed if not found.get(title)] == []


@pytest.mark.parametrize("code", CODES)
def test_why_and_help_fit_a_terminal(code: str) -> None:
    """What every diagnostic of a code prints is short, and is no list of bare values to pick from."""
    found = sections(CODES[code].page)
    assert max(len(found[WHY]), len(found[HELP])) < 320


def test_retired_codes_have_a_successor() -> None:
    """A retired code is not used again, and names one that is."""
    assert set(RETIRED) & set(CODES) == set()
    assert set(RETIRED.values()) <= set(CODES)


@pytest.mark.parametrize("code", [code for code in CODES if code.startswith("RC4")])
def test_numerics_cite_where_it_was_learnt(code: str) -> None:
    """Every check of numerics cites its source."""
    assert sections(CODES[code].page).get("References")


def test_every_owner_is_found() -> None:
    """No module owns a code without being imported by the table."""
    owners = re.compile(r"^@(?:check|diagnostic)\(\s*\"(RC\d+)\"", re.MULTILINE)
    said = {code for path in (ROOT / "recipec").rglob("*.py") for code in owners.findall(path.read_text("utf-8"))}
    assert said == set(CODES)


def test_page_as_printed() -> None:
    """A page has its code, name and severity on top; an unknown code has none; letters may be small."""
    text = page("rc404")
    assert text is not None
    assert text.startswith("RC404 ratio-of-two-spaces (error)\n\n")
    assert page("RC999") is None


def test_page_of_a_retired_code() -> None:
    """A code that was merged into another one gives the page of that one, and says so."""
    text = page("RC333")
    assert text is not None
    assert text.startswith("RC333 is retired; it is now RC146.\n\nRC146 bad-allow (error)")


def test_no_torch_for_a_page() -> None:
    """Explaining imports neither torch nor numpy."""
    script = (
        "import sys; from recipec.catalogue.code_pages import all_codes; all_codes();"
        " print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"

"""Pages of codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipec.diagnostics.pages import SECTIONS, all_codes, page, sections

ROOT = Path(__file__).parents[2]
CODES = all_codes()


@pytest.mark.parametrize("code", CODES)
def test_pages_have_their_sections(code: str) -> None:
    """Every page begins with a sentence and says what is checked, why, an example, and what to use instead."""
    found = sections(CODES[code].page)
    assert found[""].endswith(".")
    assert [title for title in SECTIONS if not found.get(title)] == []


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


def test_no_torch_for_a_page() -> None:
    """Explaining imports neither torch nor numpy."""
    script = (
        "import sys; from recipec.diagnostics.pages import all_codes; all_codes();"
        " print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"

"""Every code's page, as text and as Markdown."""

from __future__ import annotations

import re

from recipec.checks import memory as _memory, run_checks as _run_checks  # noqa: F401 - their modules own codes
from recipec.diagnostics import errors
from recipec.diagnostics.codes import RETIRED, family
from recipec.diagnostics.model import Code, codes, sections


def all_codes() -> dict[str, Code]:
    """Return the table of every code; nothing that owns one needs torch."""
    errors.import_all()
    return codes()


def find(code: str) -> Code | None:
    """Return a code by its number or its name, a retired one as what it is called now.

    >>> found = find("unmet-requirement")
    >>> found is not None and found.code
    'RC204'
    """
    known = all_codes()
    number = code.upper()
    named = next((one for one in known.values() if one.name == code), None)
    return known.get(RETIRED.get(number, number)) or named


def page(code: str) -> str | None:
    """Return the page of a code, ``None`` if there is no such code.

    >>> print(page("rc204").splitlines()[0])
    RC204 unmet-requirement (error)
    """
    entry = find(code)
    if entry is None:
        return None
    code = code.upper()
    note = f"{code} is retired; it is now {entry.code}.\n\n" if code in RETIRED else ""
    return f"{note}{entry.code} {entry.name} ({entry.severity})\n\n{entry.page}"


def reference() -> str:
    """Write the Markdown of ``docs/reference/codes.md``."""
    lines = [
        "# Codes",
        "",
        "Written by `make reference` from the functions that own the codes; `recipec explain CODE` prints one page.",
        "A code is never used again for something else.",
    ]
    title = ""
    for code in all_codes().values():
        if family(code.code) != title:
            title = family(code.code)
            lines += ["", f"## {title}"]
        lines += ["", f"### {code.code} {code.name}", "", f"*{code.severity.capitalize()}.*"]
        for name, text in sections(code.page).items():
            label = f"**{name}**: " if name else ""
            lines += ["", label + _flowing(text)]
    lines += ["", "## Retired codes", "", "| old | now |", "|---|---|"]
    lines += [f"| {old} | {now} |" for old, now in sorted(RETIRED.items())]
    return "\n".join(lines) + "\n"


def _flowing(text: str) -> str:
    return re.sub(r"\n +", "\n", text)

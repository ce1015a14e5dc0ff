"""Every code's page, as text and as Markdown."""

from __future__ import annotations

import importlib
import pkgutil
import re

from recipec.diagnostics import model
from recipec.diagnostics.model import Code

_MODULES = ("recipec.language.yaml_reader", "recipec.language.resolve")
_PACKAGES = ("recipec.checks", "recipec.diagnostics.errors")
FAMILIES = {
    "1": "Reading",
    "2": "Wiring",
    "3": "Stages",
    "4": "Numerics",
    "5": "Machine",
    "6": "Trust",
    "7": "Run and artifacts",
    "8": "Environments",
}
SECTIONS = ("What it checks", "Why it matters", "Example", "Use instead")
"""What every page must say; ``References`` follows where something is cited."""
_SECTION = re.compile(r"^(What it checks|Why it matters|Example|Use instead|References):", re.MULTILINE)


def all_codes() -> dict[str, Code]:
    """Return the table of every code, importing what owns one; nothing of that needs torch."""
    for name in _MODULES:
        importlib.import_module(name)
    for package in _PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    return model.codes()


def page(code: str) -> str | None:
    """Return the page of a code, ``None`` if there is no such code.

    >>> print(page("rc204").splitlines()[0])
    RC204 unmet-requirement (error)
    """
    found = all_codes().get(code.upper())
    return None if found is None else f"{found.code} {found.name} ({found.severity})\n\n{found.page}"


def sections(page: str) -> dict[str, str]:
    """Split a page into its sections; what stands before the first is under ``""``."""
    parts = _SECTION.split(page)
    return {"": parts[0].strip()} | {parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)}


def reference() -> str:
    """Write the Markdown of ``docs/reference/codes.md``."""
    lines = [
        "# Codes",
        "",
        "Written by `make reference` from the functions that own the codes; `recipec explain CODE` prints one page.",
        "Codes are never used again for something else.",
    ]
    family = ""
    for code in all_codes().values():
        if code.code[2] != family:
            family = code.code[2]
            lines += ["", f"## RC{family}xx {FAMILIES[family]}"]
        lines += ["", f"### {code.code} {code.name}", "", f"*{code.severity.capitalize()}.*"]
        for title, text in sections(code.page).items():
            label = f"**{title}**: " if title else ""
            lines += ["", label + _flowing(text)]
    return "\n".join(lines) + "\n"


def _flowing(text: str) -> str:
    return re.sub(r"\n +", "\n", text)

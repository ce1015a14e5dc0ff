"""Literate suites: Markdown with recipes in it, and beside their lines what is wrong with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from recipec.checks.run_checks import check_all
from recipec.diagnostics.formats import ordered, render
from recipec.diagnostics.model import Diagnostic
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe

HERE = Path(__file__).parents[1] / "diagnostics"
FILE, BASE = "recipe.yaml", "base.yaml"
ELSEWHERE = 0
"""The line of what is found in another file than the recipe: in the one it extends."""
_ON = "recipec: 1\nextends: [./base.yaml]\n"
_FENCE = re.compile(r"^```(\w*)(.*)$")
_MARK = re.compile(r"#\s*(error|warning): ((?:\[\w+\][, ]*)+)")
_CODE = re.compile(r"\[(\w+)\]")
Wanted = Counter[tuple[int, str, str]]


@dataclass(slots=True)
class Case:
    """One recipe of a suite, and what it must give: line, severity and code."""

    id: str
    text: str
    base: str = ""
    wanted: Wanted = field(default_factory=Counter)
    wording: str = ""


def cases() -> list[Case]:
    """Read every suite."""
    return [case for path in sorted(HERE.glob("*.md")) for case in read_suite(path)]


def read_suite(path: Path) -> Iterator[Case]:
    """Read one suite.

    A block ``yaml`` is a whole file; ``yaml base NAME`` gives it a name; ``yaml on NAME`` extends the file of that
    name. A mark on a line of its own speaks of the extended file. ``text`` is what the block before it must print.
    """
    bases: dict[str, str] = {}
    made: list[Case] = []
    lines = path.read_text(encoding="utf-8").split("\n")
    i = 0
    while i < len(lines):
        fence = _FENCE.match(lines[i])
        i += 1
        if fence is None:
            continue
        start = i
        i = lines.index("```", start) + 1
        body, info = lines[start : i - 1], fence[2].split()
        if fence[1] == "text":
            made[-1].wording = "\n".join(body)
        elif fence[1] == "yaml":
            base = bases[info[1]] if info[:1] == ["on"] else ""
            made.append(_case(f"{path.stem}:{start}", body, base))
            if info[:1] == ["base"]:
                bases[info[1]] = made[-1].text
    yield from made


def _case(name: str, body: list[str], base: str) -> Case:
    head = _ON if base else ""
    wanted: Wanted = Counter()
    for number, text in enumerate(body, 1 + head.count("\n")):
        for severity, codes in _MARK.findall(text):
            line = ELSEWHERE if text.lstrip().startswith("#") else number
            wanted.update((line, severity, code) for code in _CODE.findall(codes))
    return Case(name, head + "\n".join(_MARK.sub("", text).rstrip() for text in body) + "\n", base, wanted)


def diagnose(text: str, base: str, folder: Path) -> tuple[list[Diagnostic], dict[str, str]]:
    """Run the whole front end over a recipe that is written into ``folder``."""
    if base:
        (folder / BASE).write_text(base, encoding="utf-8")
    path = folder / FILE
    path.write_text(text, encoding="utf-8")
    resolved = resolve(read_source(path))
    reading = read_recipe(resolved)
    found = [*resolved.diagnostics, *reading.diagnostics, *check_all(reading)]
    return ordered(found), dict(resolved.texts)


def located(found: list[Diagnostic]) -> Wanted:
    """Say of each diagnostic where it points and what it is."""
    return Counter(
        (d.spans[0].line if d.spans and d.spans[0].file.endswith(FILE) else ELSEWHERE, d.severity, d.code)
        for d in found
    )


def wording(found: list[Diagnostic], texts: dict[str, str], folder: Path) -> str:
    """Render as a user sees it, with the folder left out of the names of files and the count left out."""
    return render(found, texts, valid=False).replace(f"{folder}/", "").rpartition("\n\n")[0]

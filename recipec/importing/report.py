"""What became of each name of an imported file, as text and as data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from recipec.diagnostics.model import Diagnostic
from recipec.diagnostics.snippet import visible
from recipec.importing.sources import LineOf
from recipec.importing.translate import OF_A_FORK, Fate, Translation

_TITLES = {
    "same": "Kept with the same meaning",
    "other": "Kept, but unit or meaning differ",
    "assumed": "Assumed, since the file does not say it",
    "earlier": "Defaults that earlier versions had otherwise",
    "missing": "Cannot be written here",
    "unknown": "Not known: no recipe reads it",
    "unneeded": "Not needed here",
}
_FEW = 5
"""Unknown names that say nothing about the program."""
_MOST = 100
"""Characters of a value that are shown."""


def text(translation: Translation, left: Sequence[Diagnostic]) -> str:
    """Return the report for people."""
    return "\n".join(map(visible, _lines(translation, left))) + "\n"


def _lines(translation: Translation, left: Sequence[Diagnostic]) -> Iterator[str]:
    source = translation.found
    yield f"{source.tool.name}, {source.trainer.title}: {source.reason}"
    unknown = sum(fate.verdict == "unknown" for fate in translation.fates)
    all_names = sum(fate.verdict != "earlier" for fate in translation.fates)
    if unknown > _FEW and unknown > all_names / 5:
        yield f"{unknown} of {all_names} names are not those of {source.tool.name}: the file may be of another program"
    if any(fate.verdict == "unknown" and fate.text.endswith(OF_A_FORK) for fate in translation.fates):
        yield f"it is of a fork or another version of {source.tool.name}: it may have other defaults than those here"
    for verdict, title in _TITLES.items():
        fates = sorted((fate for fate in translation.fates if fate.verdict == verdict), key=lambda fate: fate.line)
        if fates:
            yield ""
            yield f"{title} ({len(fates)})"
            yield from map(_line, gathered(fates))
    if left:
        yield ""
        yield f"To be written by hand ({len(left)}), as `recipec validate` says"
        for diagnostic in left:
            yield f"  {diagnostic.path or 'recipe'}: {diagnostic.message}" + (
                f" ({diagnostic.help})" if diagnostic.help else ""
            )


def gathered(fates: Sequence[Fate]) -> list[Fate]:
    """Make one of neighbouring names of a section that have the same reason.

    >>> gathered([Fate(f"a.b.{n}", n, n, "missing", text="why") for n in range(1, 5)])
    [Fate(name='a.b.… (4 names)', value=None, line=1, verdict='missing', paths=(), text='why')]
    """
    shorter: list[Fate] = []
    for _, group in groupby(fates, key=lambda fate: (fate.name.split(".")[:2], fate.text, fate.paths)):
        members = list(group)
        alike = len(members) > _ONE_BY_ONE and members[0].text and "." in members[0].name
        start = ".".join(members[0].name.split(".")[:2])
        shorter += [replace(members[0], name=f"{start}.… ({len(members)} names)", value=None)] if alike else members
    return shorter


_ONE_BY_ONE = 3
"""Names of a section that are listed."""


def _line(fate: Fate) -> str:
    value = json.dumps(fate.value, ensure_ascii=False, default=str) if not isinstance(fate.value, str) else fate.value
    value = value if len(value) <= _MOST else f"{value[: _MOST - 1]}…"
    where = f"{fate.line:>5}" if fate.line else "     "
    to = f" -> {', '.join(fate.paths)}" if fate.paths else ""
    value_text = f" = {value}" if fate.value is not None else ""
    return f"{where}  {fate.name}{value_text}{to}" + (f": {fate.text}" if fate.text else "")


def json_text(translation: Translation, left: Sequence[Diagnostic]) -> str:
    """Return the report as JSON."""
    return json.dumps(data(translation, left), indent=2, default=str) + "\n"


def data(translation: Translation, left: Sequence[Diagnostic]) -> dict[str, Any]:
    """Return the report as plain data."""
    rows = [
        {
            "name": f.name,
            "value": f.value,
            "settings_file": f.line.file if isinstance(f.line, LineOf) else "",
            "line": f.line,
            "verdict": f.verdict,
            "paths": [*f.paths],
            "text": f.text,
        }
        for f in translation.fates
    ]
    recognised = translation.found
    return {
        "tool": recognised.tool.name,
        "trainer": recognised.trainer.title,
        "reason": recognised.reason,
        "names": rows,
        "to_write": [{"path": d.path, "message": d.message, "help": d.help} for d in left],
    }

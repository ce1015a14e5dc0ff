"""What each metric means, read from `docs/metrics.md`, so that the page and the documentation cannot differ."""

from __future__ import annotations

import re
from functools import cache

from recipec.package_files import shipped

_PLACEHOLDERS = {"LEVEL": r"[^/]+", "K": r"\d+"}


def meaning(name: str) -> str:
    """Return unit and meaning of a metric; empty for one that the documentation does not list, such as a user's.

    >>> meaning("kl")
    'KL from the reference (nats)'
    >>> meaning("eval/dev/accuracy"), meaning("dev/accuracy") == meaning("eval/dev/accuracy")
    ('reward of at least correct_at (share of answers)', True)
    """
    training, held_out = _tables()
    if name in training or not (name.startswith("eval/") or "/" in name):
        return _find(training, name)
    return _find(training, name) or _find(held_out, name.rpartition("/")[2])


def _find(table: dict[str, str], name: str) -> str:
    return table.get(name) or next((text for form, text in table.items() if re.fullmatch(form, name)), "")


@cache
def _tables() -> tuple[dict[str, str], dict[str, str]]:
    """Return the meaning of each metric of training and of evaluations by the form of its name."""
    page = (shipped("docs") / "metrics.md").read_text(encoding="utf-8")
    training, _, held_out = page.partition("## Evaluation metrics")
    return _table(training), _table(held_out)


def _table(text: str) -> dict[str, str]:
    meanings = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            names, unit, means = cells
            plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", means).replace("`", "")
            found = re.findall(r"`([^`]+)`", names)
            each = zip(found, _share(plain, "; ", len(found)), _share(unit, ", ", len(found)), strict=True)
            for name, means_one, one in each:
                form = re.sub("|".join(_PLACEHOLDERS), lambda found: _PLACEHOLDERS[found[0]], name)
                meanings[form] = f"{means_one} ({one})" if one else means_one
    return meanings


def _share(cell: str, separator: str, count: int) -> list[str]:
    """Give each metric of a row its own part of a cell; all of it, where the cell has one part for all."""
    parts = cell.split(separator)
    return parts if len(parts) == count else [cell] * count

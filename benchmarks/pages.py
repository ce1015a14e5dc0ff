"""Tables in pages: a benchmark replaces what is between its two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_between(page: Path, begin: str, end: str, lines: Sequence[str]) -> None:
    """Replace the text between two marks of a page.

    Raises:
        SystemExit: the page does not have them.
    """
    before, begun, rest = page.read_text("utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise SystemExit(f"{page} has no markers")
    page.write_text("\n".join([f"{before}{begin}", "", *lines, "", f"{end}{after}"]), "utf-8")

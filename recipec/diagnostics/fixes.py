"""Apply the edits that diagnostics bring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from recipec.diagnostics.model import Diagnostic, Fix


def fixed(text: str, fixes: Iterable[Fix]) -> tuple[str, int]:
    r"""Return a text with edits applied, and how many; of edits that overlap the first one counts.

    >>> from recipec.diagnostics.model import Span
    >>> fixed("a: 1\nepsilom: 2\n", [Fix("rename it", Span("r.yaml", 2, 1, 2, 8), "epsilon")])
    ('a: 1\nepsilon: 2\n', 1)
    """
    lines = text.split("\n")
    taken: dict[int, list[tuple[int, int, str]]] = {}
    for fix in fixes:
        span, place = fix.span, (fix.span.column - 1, fix.span.end_column - 1, fix.text)
        others = taken.setdefault(span.line, [])
        apart = all(place[1] <= start or end <= place[0] for start, end, _ in others)
        if span.line == span.end_line and span.line <= len(lines) and apart:
            others.append(place)
    for line, places in taken.items():
        for start, end, new in sorted(places, reverse=True):
            lines[line - 1] = lines[line - 1][:start] + new + lines[line - 1][end:]
    return "\n".join(lines), sum(map(len, taken.values()))


def fixed_texts(texts: Mapping[str, str], found: Iterable[Diagnostic]) -> dict[str, tuple[str, int]]:
    """Return the files that have edits: their new text, and the number of edits."""
    by_file: dict[str, list[Fix]] = {}
    for diagnostic in dict.fromkeys(found):
        if diagnostic.fix is not None and diagnostic.fix.span.file in texts:
            by_file.setdefault(diagnostic.fix.span.file, []).append(diagnostic.fix)
    return {file: fixed(texts[file], fixes) for file, fixes in by_file.items()}

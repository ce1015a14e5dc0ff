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
    done = 0
    for fix in fixes:
        places = [(span.line, span.column - 1, span.end_column - 1, new) for span, new in fix.edits]
        fits = all(span.line == span.end_line and span.line <= len(lines) for span, _ in fix.edits)
        if fits and not any(_overlaps(place, taken) for place in places):
            done += 1
            for line, start, end, new in places:
                taken.setdefault(line, []).append((start, end, new))
    dropped = set()
    for line, edits in taken.items():
        for start, end, new in sorted(edits, reverse=True):
            lines[line - 1] = lines[line - 1][:start] + new + lines[line - 1][end:]
        if not lines[line - 1].strip():
            dropped.add(line)
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in dropped), done


def _overlaps(place: tuple[int, int, int, str], taken: Mapping[int, Iterable[tuple[int, int, str]]]) -> bool:
    line, start, end, _ = place
    return any((start < other_end and first < end) or first == start for first, other_end, _ in taken.get(line, ()))


def fixed_texts(texts: Mapping[str, str], diagnostics: Iterable[Diagnostic]) -> dict[str, tuple[str, int]]:
    """Return the files that have edits: their new text, and the number of edits."""
    by_file: dict[str, list[Fix]] = {}
    for diagnostic in dict.fromkeys(diagnostics):
        if diagnostic.fix is not None and diagnostic.fix.span.file in texts:
            by_file.setdefault(diagnostic.fix.span.file, []).append(diagnostic.fix)
    return {file: fixed(texts[file], fixes) for file, fixes in by_file.items()}

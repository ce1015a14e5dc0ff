"""Diagnostics as people and machines read them: text, concise, json, github, sarif."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from recipec.diagnostics.model import WHY, Code, Diagnostic, Fix, Span, codes, sections
from recipec.diagnostics.snippet import excerpt, visible

Texts = Mapping[str, str]
FORMAT_VERSION = "1"
MOST = 50
"""Diagnostics shown to a person in one go; the rest is counted."""
MOST_ANNOTATIONS = 10
"""Annotations of one severity that GitHub shows for one step of a workflow; it drops the others silently."""
_SARIF = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(
    diagnostics: Iterable[Diagnostic], texts: Texts, form: str = "text", *, valid: bool, colour: bool = False
) -> str:
    """Write diagnostics in one of the formats, sorted by file and position, each once.

    ``texts`` maps the files that spans name to what they say; a file that is not there is named and not quoted.
    ``colour`` makes the text form rich markup.

    Raises:
        KeyError: the format is not one of text, concise, json, github, sarif.
    """
    in_order = ordered(diagnostics)
    writers: dict[str, Callable[[], str]] = {
        "text": lambda: _text(in_order, texts, colour=colour),
        "concise": lambda: _concise(in_order),
        "json": lambda: _json(in_order, valid=valid),
        "github": lambda: _github(in_order),
        "sarif": lambda: _sarif(in_order),
    }
    return writers[form]()


def ordered(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    """Sort by file, position and code; drop duplicates."""
    return sorted(dict.fromkeys(diagnostics), key=_position)


def count(diagnostics: Sequence[Diagnostic]) -> str:
    """Say how many errors and warnings there are.

    >>> count([Diagnostic("RC101", "x", "error", "…"), Diagnostic("RC405", "y", "warning", "…")])
    '1 error, 1 warning'
    """
    errors = sum(d.is_error for d in diagnostics)
    named = [(errors, "error"), (len(diagnostics) - errors, "warning")]
    return ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for n, word in named if n)


def _position(diagnostic: Diagnostic) -> tuple[str, int, int, str, str]:
    if not diagnostic.spans:
        return ("", 0, 0, diagnostic.code, diagnostic.message)
    span = diagnostic.spans[0]
    return (span.file, span.line, span.column, diagnostic.code, diagnostic.message)


def _at(span: Span) -> str:
    return f"{visible(span.file)}:{span.line}:{span.column}"


# text


class _Plain:
    """Text as it is."""

    def text(self, text: str) -> str:
        return text

    def styled(self, style: str, text: str) -> str:  # noqa: ARG002 - the coloured pen has a use for it
        return text


class _Markup(_Plain):
    """Text as rich markup."""

    def text(self, text: str) -> str:
        from rich.markup import escape  # noqa: PLC0415 - only a coloured terminal needs it

        return escape(text)

    def styled(self, style: str, text: str) -> str:
        return f"[{style}]{self.text(text)}[/]"


def _text(diagnostics: Sequence[Diagnostic], texts: Texts, *, colour: bool) -> str:
    if not diagnostics:
        return ""
    pen = _Markup() if colour else _Plain()
    lines = [line for d in diagnostics[:MOST] for line in (*_page(d, texts, pen), "")]
    if len(diagnostics) > MOST:
        lines += [pen.text(f"… and {len(diagnostics) - MOST} more"), ""]
    return "\n".join([*lines, pen.text(count(diagnostics))])


def _page(diagnostic: Diagnostic, texts: Texts, pen: _Plain) -> Iterable[str]:
    style = "bold red" if diagnostic.is_error else "bold yellow"
    yield pen.styled(style, f"{diagnostic.severity}[{diagnostic.code}]") + pen.text(f": {visible(diagnostic.message)}")
    first = diagnostic.spans[0] if diagnostic.spans else None
    gutter = len(str(first.line)) if first else 2
    for span in diagnostic.spans:
        label = f"    {visible(span.label)}" if span.label else ""
        yield pen.styled("blue", " " * gutter + "-->") + pen.text(f" {_at(span)}{label}")
        if span is first:
            yield from _quote(span, texts, gutter, style, pen)
    explain = f"recipec explain {diagnostic.code}"
    for name, text in (("why", diagnostic.why), ("help", diagnostic.help), ("explain", explain)):
        if text:
            yield pen.styled("blue", " " * (gutter + 1) + "=") + pen.text(f" {name}: {visible(text)}")


def _quote(span: Span, texts: Texts, gutter: int, style: str, pen: _Plain) -> Iterable[str]:
    lines = texts.get(span.file, "").split("\n")
    if span.line > len(lines) or not lines[span.line - 1].strip():
        return
    line = lines[span.line - 1].removesuffix("\r")
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    shown, before, under = excerpt(line, span.column - 1, end)
    bar = pen.styled("blue", " " * (gutter + 1) + "|")
    yield bar
    yield pen.styled("blue", f"{span.line:>{gutter}} |") + pen.text(f" {shown}")
    yield f"{bar} {' ' * before}" + pen.styled(style, "^" * under)


# one line each


def _concise(diagnostics: Sequence[Diagnostic]) -> str:
    lines = [
        f"{_at(d.spans[0]) + ': ' if d.spans else ''}{d.severity} {d.code} {visible(d.message)}"
        for d in diagnostics[:MOST]
    ]
    if len(diagnostics) > MOST:
        lines.append(f"… and {len(diagnostics) - MOST} more ({count(diagnostics)})")
    return "\n".join(lines)


def _github(diagnostics: Sequence[Diagnostic]) -> str:
    lines = []
    for severity in ("error", "warning"):
        of = [d for d in diagnostics if d.severity == severity]
        lines += [_annotation(d) for d in of[:MOST_ANNOTATIONS]]
        if len(of) > MOST_ANNOTATIONS:
            more = len(of) - MOST_ANNOTATIONS
            lines.append(f"::notice title=recipec::{more} more {severity}{'s' if more > 1 else ''} not shown here")
    return "\n".join(lines)


def _annotation(diagnostic: Diagnostic) -> str:
    properties: dict[str, Any] = {"title": f"{diagnostic.code} {diagnostic.name}"}
    if diagnostic.spans:
        span = diagnostic.spans[0]
        properties |= {"file": visible(span.file), "line": span.line, "col": span.column}
        properties |= {"endLine": span.end_line, "endColumn": span.end_column}
    named = ",".join(f"{key}={_property(str(value))}" for key, value in properties.items())
    help_ = f" ({diagnostic.help})" if diagnostic.help else ""
    text = re.sub(r"[^\r\n]+", lambda line: visible(line[0]), diagnostic.message + help_)
    return f"::{diagnostic.severity} {named}::{_data(text)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# for machines


def _span(span: Span) -> dict[str, Any]:
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
        "label": span.label,
    }


def _fix(fix: Fix | None) -> dict[str, Any] | None:
    if fix is None:
        return None
    also = [{"span": _span(span), "text": text} for span, text in fix.also]
    return {"message": fix.message, "span": _span(fix.span), "text": fix.text, **({"also": also} if also else {})}


def _json(diagnostics: Sequence[Diagnostic], *, valid: bool) -> str:
    rows = [
        {
            "code": d.code,
            "name": d.name,
            "severity": d.severity,
            "path": d.path,
            "message": d.message,
            "why": d.why,
            "help": d.help,
            "spans": [_span(span) for span in d.spans],
            "fix": _fix(d.fix),
        }
        for d in diagnostics
    ]
    return json.dumps({"format_version": FORMAT_VERSION, "valid": valid, "diagnostics": rows}, indent=2)


def _sarif(diagnostics: Sequence[Diagnostic]) -> str:
    rules = {d.code: _rule(codes()[d.code]) for d in diagnostics if d.code in codes()}
    results = [
        {
            "ruleId": d.code,
            "level": d.severity,
            "message": {"text": " - ".join(part for part in (d.message, d.why, d.help) if part)},
            "locations": [_location(span) for span in d.spans[:1]],
            "relatedLocations": [_location(span) for span in d.spans[1:]],
            **({"fixes": [_sarif_fix(d.fix)]} if d.fix is not None else {}),
        }
        for d in diagnostics
    ]
    driver = {"name": "recipec", "version": version("recipec"), "rules": [rules[code] for code in sorted(rules)]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": _SARIF, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(code: Code) -> dict[str, Any]:
    """Describe a code as code scanning shows it: what it is, why it matters and how to fix it."""
    parts = sections(code.page)
    text = "\n\n".join(f"{title}: {part}" if title else part for title, part in parts.items())
    return {
        "id": code.code,
        "name": code.name,
        "shortDescription": {"text": " ".join(parts[""].split())},
        "fullDescription": {"text": " ".join(parts.get(WHY, parts[""]).split())},
        "help": {"text": text},
        "defaultConfiguration": {"level": code.severity},
    }


def _sarif_fix(fix: Fix) -> dict[str, Any]:
    place = _location(fix.span)["physicalLocation"]
    edits = [
        {"deletedRegion": _location(span)["physicalLocation"]["region"], "insertedContent": {"text": text}}
        for span, text in fix.edits
    ]
    change = {"artifactLocation": place["artifactLocation"], "replacements": edits}
    return {"description": {"text": fix.message}, "artifactChanges": [change]}


def _location(span: Span) -> dict[str, Any]:
    region = {
        "startLine": span.line,
        "startColumn": span.column,
        "endLine": span.end_line,
        "endColumn": span.end_column,
    }
    place = {"artifactLocation": {"uri": span.file}, "region": region}
    return {"physicalLocation": place, **({"message": {"text": span.label}} if span.label else {})}

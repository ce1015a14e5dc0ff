"""Warnings that a stage allows: RC146 and RC332."""

from __future__ import annotations

from collections.abc import Iterator

from recipec.checks.queries import Place, at_path, span_of
from recipec.diagnostics import errors
from recipec.diagnostics.codes import RETIRED
from recipec.diagnostics.model import COMMAND_LINE, Diagnostic, Finding, check, codes, diagnostic, dotted
from recipec.diagnostics.phrases import did_you_mean, distance
from recipec.reading.partial import Reading


@check("RC146", "bad-allow")
def bad_allow(reading: Reading) -> Iterator[Finding]:
    """An entry of `allow` does not name a warning, or has no reason.

    What it checks: `allow` maps codes of warnings to reasons.
    Why it matters: the next reader needs the reason. An error cannot be allowed: the recipe would not do what it says.
    Example: `allow: {RC405: ""}`, `allow: {RC404: "I know"}`.
    How to fix: write the code as the warning prints it, and why it is meant: `allow: {RC405: "published with top_p
    0.95"}`.
    """
    for stage in reading.stages.values():
        for code, reason in stage.allow.items():
            path = (*stage.path, "allow", code)
            problem, remedy = _problem(code)
            if problem:
                spans = span_of(reading, path, key=True)
            elif not reason:
                problem, spans = "it has no reason", span_of(reading, path)
                remedy = f'write `{code}: "why it is meant"`'
            else:
                continue
            yield Finding(f"`allow` cannot take `{code}`: {problem}", spans, help=remedy, path=dotted(path))


def _problem(code: str) -> tuple[str, str]:
    """Say why a code cannot be allowed, and what to write instead."""
    errors.import_all()
    known = codes()
    if code in RETIRED:
        return f"it is retired and now part of {RETIRED[code]}", f"see `recipec explain {RETIRED[code]}`"
    if code not in known:
        warnings = [
            other for other, entry in known.items() if entry.severity == "warning" and distance(code, other) <= 1
        ]
        return "there is no such code", did_you_mean(code, warnings) or "`recipec ls codes` lists them"
    if known[code].severity == "error":
        return "it is an error", "drop the entry, and fix the error where it is reported"
    return "", ""


def _of_a_check(code: str) -> bool:
    return codes()[code].owner.startswith("recipec.checks.")


@diagnostic("RC332", "unused-allow", "warning")
def unused_entry(place: Place, stage: str, code: str) -> Finding:
    """A stage allows a warning that it does not cause.

    What it checks: every entry of `allow` suppressed a warning. Entries that a stage inherits by `extends` are not
    counted: they are for every recipe that extends the file. Nor are warnings that `recipec check` alone can find.
    Why it matters: an entry that is no longer needed would suppress a later warning that is not meant.
    Example: `allow: {RC405: "published so"}` with `top_p: 1.0`.
    How to fix: drop the entry.
    """
    return place.finding(f"stage `{stage}` allows {code}, but nothing causes that warning")


def unused_allow(reading: Reading, used: set[tuple[str, str]]) -> Iterator[Diagnostic]:
    """Yield RC332 for entries of `allow` that are not ``used``, which only the run of all checks knows."""
    for stage in reading.stages.values():
        for code, reason in stage.allow.items():
            path = (*stage.path, "allow", code)
            if (stage.name, code) in used or not reason or _problem(code)[0] or not _of_a_check(code):
                continue
            if reading.resolved.file(path) not in (*reading.resolved.files[:1], COMMAND_LINE):
                continue
            yield unused_entry(at_path(reading, path, key=True), stage.name, code)

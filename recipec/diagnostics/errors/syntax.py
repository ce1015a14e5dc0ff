"""YAML syntax errors in plain words: RC105, and RC100 for what is valid YAML and never meant."""

from __future__ import annotations

from recipec.diagnostics.model import Finding, Fix, Span, diagnostic

_WORDS = (
    # the library's message, what is wrong, what to do
    (
        "mapping values are not allowed",
        "a `: ` is at a place where no key can have a value",
        "put text that contains `: ` in quotes, or check the colon of the line above and the indentation of this one",
    ),
    ("did not find expected ',' or '}'", "a `{` is not closed, or a comma is missing", "add the comma or the `}`"),
    ("did not find expected ',' or ']'", "a `[` is not closed, or a comma is missing", "add the comma or the `]`"),
    ("expected ',' or '}'", "a `{` is not closed, or a comma is missing", "add the comma or the `}`"),
    ("expected ',' or ']'", "a `[` is not closed, or a comma is missing", "add the comma or the `]`"),
    (
        "unknown escape character",
        "this backslash escape does not exist",
        "use single quotes for text with backslashes, or double the backslash",
    ),
    (
        "expected hexdecimal number",
        "this backslash escape needs hexadecimal digits",
        "use single quotes for text with backslashes, or double the backslash",
    ),
    (
        "expected escape sequence",
        "this backslash escape needs hexadecimal digits",
        "use single quotes for text with backslashes, or double the backslash",
    ),
    (
        "invalid Unicode character escape",
        "this backslash escape is not a character",
        "use single quotes for text with backslashes, or double the backslash",
    ),
    (
        "expected '-' indicator",
        "this line does not continue the list above it",
        "indent it like the items, start it with `- `, or move it out of the list",
    ),
    (
        "could not find expected ':'",
        "this line has no `: `, so it is not a key with a value",
        "write `key: value` with a space after the colon; indent the lines of a long text, or use `|`",
    ),
    (
        "sequence entries are not allowed",
        "a list item cannot start here",
        "put the first `- ` on a line of its own below the key",
    ),
    (
        "incompatible YAML document",
        "this `%YAML` directive names a version that is not 1.x",
        "remove the directive; recipes are YAML 1.2",
    ),
    ("document separator", "`---` is inside a quoted text", "close the quotes before it"),
    ("end of stream", "the file ends inside this text", "close its quotes"),
    ("expected comment or line break", "nothing can follow `|` or `>` on its line", "start the text on the next line"),
    ("chomping or indentation", "nothing can follow `|` or `>` on its line", "start the text on the next line"),
    (
        "alphabetic or numeric",
        "`*` and `&` start an alias or an anchor and need a name",
        "put text that starts with `*` or `&` in quotes",
    ),
    ("did not find expected <document start>", "this does not belong to the mapping above", "check its indentation"),
    ("expected '<document start>'", "this does not belong to the mapping above", "check its indentation"),
    (
        "did not find expected key",
        "this line does not fit the mapping above it",
        "indent it like its neighbours and write `key: value`",
    ),
    (
        "expected <block end>",
        "this line does not fit what is above it",
        "indent it like its neighbours and write `key: value`",
    ),
    ("tag", "this tag is not complete, and tags are not allowed", "put text that starts with `!` in quotes"),
    ("directive", "this `%` directive is not understood", "remove it; put text that starts with `%` in quotes"),
)
_RESERVED = "`@%"
_CLOSING = "}]"


def in_plain_words(problem: str, character: str, before: str = "") -> tuple[str, str]:
    """Return what is wrong and what to do, from the library's message and the characters where it stopped.

    >>> in_plain_words("found character that cannot start any token", "@")[0]
    'text cannot start with `@`'
    """
    if "cannot start any token" in problem and character == "\t":
        return "a tab cannot indent", "use spaces"
    if "cannot start any token" in problem and character in _RESERVED:
        return f"text cannot start with `{character}`", "put it in quotes"
    if ("expected key" in problem or "<block end>" in problem) and before and before in "'\"}]":
        return f"nothing can follow the closing `{before}`", "put the whole text in quotes; inside '…' write ' twice"
    if "node content" in problem and character in _CLOSING:
        return f"this `{character}` closes nothing", "remove it, or put the text in quotes"
    for theirs, ours, instead in _WORDS:
        if theirs in problem:
            return ours, instead
    return "this is not YAML", "check indentation, quotes and brackets around here"


@diagnostic("RC105", "yaml-syntax")
def syntax_error(
    place: Span,
    started: Span | None,
    message: str,
    remedy: str,
    chain: tuple[Span, ...],
    fix: Fix | None = None,
    *,
    mended: bool = False,
) -> Finding:
    """The text is not valid YAML.

    Why it matters: reading stopped at this place; what comes after it was not checked.
    Example: `title: GRPO: the paper` (a second `: ` without quotes), a tab as indentation, a bracket that is never
    closed, a line without its colon.
    How to fix: quote text that contains `: ` or ` #` or starts with a special character, indent with spaces, close
    every bracket, and write `key: value`.
    References: YAML 1.2.2.
    """
    if started is not None and not started.label:
        started = started.labelled("it started here")
    spans = (place, started) if started is not None and started != place.labelled(started.label) else (place,)
    why = "this is not YAML; the rest of the file was read as if it were mended" if mended else ""
    return Finding(message, (*spans, *chain), why=why, help=remedy, fix=fix)


@diagnostic("RC100", "no-value-in-braces")
def no_value(place: Span, key: str, remedy: str, path: str, chain: tuple[Span, ...]) -> Finding:
    """An entry in braces is a word without a colon and a value.

    Why it matters: YAML reads the word as a key with the value null, which would be ignored.
    Example: `{weight_decay: 0,1}` (a comma for a decimal point), `{type:exact_match}` (no space after the colon).
    How to fix: write `key: value`, and a decimal point in numbers.
    References: YAML 1.2.2, section 7.4.2.
    """
    return Finding(f"`{key}` has no value", (place, *chain), help=remedy, path=path)

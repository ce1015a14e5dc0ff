"""Mistakes in the YAML of a recipe: its syntax, entries without a value."""

from __future__ import annotations

import json
import re

from recipec.diagnostics.errors.syntax import in_plain_words, no_value, syntax_error
from recipec.diagnostics.errors.text import typographic_quotes
from recipec.diagnostics.model import Diagnostic, Fix, Span
from recipec.language.repairs import CLOSING_QUOTES, OPENING_QUOTES, hidden_by_comment, open_quotes
from recipec.language.scalars import read_scalar
from recipec.language.text_positions import Text

_THOUSAND = 3
"""Digits after a comma that separates thousands."""
_KEY_LINE = re.compile(r"( *)([\w-]+):(?: ([^\n]*))?")


def entry_without_value(
    place: Span, key: str, last: tuple[str, object] | None, path: str, chain: tuple[Span, ...]
) -> tuple[Diagnostic, tuple[str, str] | None]:
    """Refuse an entry in braces without a colon and a value; ``last`` is the entry before it.

    Returns:
        The diagnostic, and the key and value that were probably meant, if there are any.
    """
    name, before = last or ("", None)
    words, meant = (
        _after_number(key, name, before)
        or _after_text(key, name, before)
        or (f"write `{key}: VALUE`, such as `{key}: true`, or remove it", None)
    )
    return no_value(place, key, words, path, chain), meant


def _after_number(key: str, name: str, before: object) -> tuple[str, tuple[str, str] | None] | None:
    """Say that a number was cut at its comma, or that a list lacks its brackets, and what was meant."""
    if (
        not re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", key)
        or not isinstance(before, int | float)
        or isinstance(before, bool)
    ):
        return None
    point, whole = f"{before}.{key}", f"{before}{key}"
    if not isinstance(before, int) or "." in key:
        return f"a list has brackets: write `{name}: [{before}, {key}]`", None
    if len(key) == _THOUSAND and before:
        return f"write `{name}: {whole}`, without a comma, or with a decimal point `{name}: {point}`", (name, whole)
    return f"numbers have a decimal point: write `{name}: {point}`", (name, point)


def _after_text(key: str, name: str, before: object) -> tuple[str, tuple[str, str] | None] | None:
    """Say that a text was cut at its comma, that a colon is missing, or that a list lacks its brackets."""
    text = before if isinstance(before, str) else ""
    if key.endswith(")") and text.startswith("("):
        return f"a list has brackets: write `{name}: [{text[1:]}, {key[:-1]}]`", None
    if text and text[0] in OPENING_QUOTES and key[-1] in CLOSING_QUOTES:
        return f'the quotes are typographic, which are letters here: write `{name}: "{text[1:]}, {key[:-1]}"`', None
    if entry := re.fullmatch(r"(\w+)\s*(=|:|\s)\s*(.+)", key):
        head, sign, tail = entry.groups()
        wrong = {"=": "`=` is in the place of a colon", ":": "a space is missing after the colon"}
        return f"{wrong.get(sign, 'a colon is missing')}: write `{head}: {tail}`", (head, tail)
    if re.fullmatch(r"[\w./-]+", text) and re.fullmatch(r"[\w./-]+", key):
        return f"a list has brackets: write `{name}: [{text}, {key}]`", None
    return None


def refuse_quotes(place: Span, inner: str, key: str, path: str, chain: tuple[Span, ...]) -> Diagnostic:
    """Refuse typographic quotes, with the edit that writes plain ones, or none around a number."""
    number = isinstance(read_scalar(inner)[0], int | float)
    right = inner if number else json.dumps(inner, ensure_ascii=False)
    whole = inner.isprintable()  # braces of a reference are other characters here
    return typographic_quotes(place, key, path, Fix(f"write {right}", place, right) if whole else None, chain)


def refuse_syntax(text: Text, problem: Exception) -> Diagnostic:
    """Say in plain words why the YAML library stopped."""
    mark, context = getattr(problem, "problem_mark", None), getattr(problem, "context_mark", None)
    message = " ".join(filter(None, (getattr(problem, "context", ""), getattr(problem, "problem", ""))))
    end = len(text.text.rstrip())
    index = min(mark.index, end) if mark else 0
    place = text.between(index, index + 1 if text.text[index : index + 1].strip() else index)
    started = None
    if context and "starting" not in message and text.text[context.index : context.index + 1].strip():
        started = text.between(context.index, context.index + 1)
    before = text.text[text.text.rfind("\n", 0, index) + 1 : index].rstrip()[-1:]
    if started and "end of stream" in message:  # the mistake is where the quotes are opened
        ends = place.labelled("the file ends here")
        return syntax_error(started, ends, "these quotes are not closed", "close its quotes", text.chain)
    if context and (at := open_quotes(text.text, context.index, index)) is not None:
        wrong, ends = "these quotes are not closed on their line", place.labelled("reading ended here")
        return syntax_error(text.between(at, at + 1), ends, wrong, "close them", text.chain)
    wrong, remedy = in_plain_words(message, text.text[index : index + 1], before)
    if "expected ',' or" in message and context:
        place, wrong, remedy = _inside_brackets(text, context.index, index) or (place, wrong, remedy)
    elif "mapping values are not allowed" in message or "expected key" in message:
        mistake = _indented(text, index) or _two_colons(text, index)
        place, wrong, remedy = mistake or (place, wrong, remedy)
    return syntax_error(place, started, wrong, remedy, text.chain)


def _inside_brackets(text: Text, start: int, index: int) -> tuple[Span, str, str] | None:
    """Say that a text in braces or brackets has a comment or a colon in it, and needs quotes."""
    if at := hidden_by_comment(text.text, start):
        hidden = re.split(r"[,}\n]", text.text[at:], maxsplit=1)[0]
        line = f"{_text_before(text.text, at)} {hidden.strip()}".strip()
        wrong = "` #` begins a comment: the rest of the line is not read"
        return text.between(at, at + 1), wrong, f'if the `#` is a part of the text, put it in quotes: `"{line}"`'
    if text.text[index - 1] in "'\"" and text.text[index : index + 1].isalnum():
        wrong = f"nothing can follow the closing `{text.text[index - 1]}`"
        return text.between(index, index + 1), wrong, "put the whole text in quotes; inside '…' write ' twice"
    if text.text[index : index + 2] == ": ":
        ends = r"[,\]\n]" if text.text[start] == "[" else r"[,}\n]"
        head, rest = _text_before(text.text, index), re.split(ends, text.text[index:], maxsplit=1)[0].rstrip()
        quoted = f'put it in quotes: `"{head}{rest}"`'
        return text.between(index, index + 1), f"`{head}` is a value already, and cannot have one", quoted
    return None


def _text_before(text: str, index: int) -> str:
    """Return the plain text of an entry in braces or brackets that ends before ``index``."""
    entry = re.split(r"[,{\[]", text[:index])[-1]
    return entry.rpartition(": ")[2].strip()


def _two_colons(text: Text, index: int) -> tuple[Span, str, str] | None:
    """Say that a text with `: ` in it needs quotes."""
    begin = text.text.rfind("\n", 0, index) + 1
    key = _KEY_LINE.match(text.text[begin:])
    if key is None or not key[3] or ": " not in key[3] or key[3][0] in "\"'[{|>":
        return None
    value = key[3].strip().replace('"', "'")
    return text.between(index, index + 1), "`: ` is in a text", f'put the text in quotes: `{key[2]}: "{value}"`'


def _indented(text: Text, index: int) -> tuple[Span, str, str] | None:
    """Say that a key is indented below a key that has a value, or as no line above it."""
    begin = text.text.rfind("\n", 0, index) + 1
    above = [line for line in text.text[:begin].split("\n") if line.strip() and not line.lstrip().startswith("#")]
    key, before = _KEY_LINE.match(text.text[begin:]), _KEY_LINE.match(above[-1] if above else "")
    if key is None or before is None:
        return None
    mine, last = len(key[1]), len(before[1])
    place = text.between(begin + mine, begin + mine + len(key[2]))
    if mine > last and before[3]:
        wrong = f"`{key[2]}` is indented below `{before[2]}`, which has a value"
        return place, wrong, f"write {last} spaces before it, as before `{before[2]}`"
    open_blocks = [last]
    for line in reversed(above):
        indent = len(line) - len(line.lstrip(" "))
        open_blocks += [indent] if indent < open_blocks[-1] else []
    near = [
        max((n for n in open_blocks if n < mine), default=None),
        min((n for n in open_blocks if n > mine), default=None),
    ]
    if mine in open_blocks or None in near:
        return None
    wrong = f"`{key[2]}` has {mine} spaces before it, and no key above it has as many"
    return place, wrong, f"write {near[0]} or {near[1]} spaces"

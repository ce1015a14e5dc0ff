"""Mistakes in the YAML of a recipe: its syntax, references without quotes, entries without a value."""

from __future__ import annotations

import re

from recipec.diagnostics.errors import text as errors
from recipec.diagnostics.errors.syntax import no_value, syntax_error
from recipec.diagnostics.model import Diagnostic, Fix, Span
from recipec.language.text_positions import Text

_THOUSAND = 3
"""Digits after a comma that separates thousands."""


def unquoted_reference(text: str, problem: Exception) -> tuple[int, int] | None:
    """Return start and end of the `${…}` at which the library stopped, if it did."""
    mark = getattr(problem, "problem_mark", None)
    if mark is None or text[mark.index - 1 : mark.index + 1] != "${":
        return None
    depth = 0
    for index in range(mark.index, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return mark.index - 1, index + 1
        if text[index] == "\n":
            return None
    return None


def refuse_unquoted(text: Text, start: int, end: int) -> Diagnostic:
    """Refuse the reference between two places of a text, with the edit that puts it in quotes."""
    written = text.text[start:end]
    place = text.between(start, end)
    before, after = text.text[:start].rstrip(" ")[-1:], text.text[end:].lstrip(" ")[:1]
    whole = before in set(":,[{") and after in set(",]}\n")
    fix = Fix("put it in quotes", place, f'"{written}"') if whole else None
    return errors.unquoted_reference(place, written, fix, text.chain)


def entry_without_value(
    place: Span, key: str, last: tuple[str, object] | None, path: str, chain: tuple[Span, ...]
) -> tuple[Diagnostic, tuple[str, str] | None]:
    """Refuse an entry in braces without a colon and a value; ``last`` is the entry before it.

    Returns:
        The diagnostic, and the key and value that were probably meant, if there are any.
    """
    name, before = last or ("", None)
    if re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", key) and isinstance(before, int | float) and not isinstance(before, bool):
        point, whole = f"{before}.{key}", f"{before}{key}"
        if not isinstance(before, int) or not key.isdigit():
            return no_value(place, key, f"a list has brackets: write `{name}: [{before}, {key}]`", path, chain), None
        if len(key) == _THOUSAND and before:
            words = f"write `{name}: {whole}`, without a comma, or with a decimal point `{name}: {point}`"
            return no_value(place, key, words, path, chain), (name, whole)
        words = f"numbers have a decimal point: write `{name}: {point}`"
        return no_value(place, key, words, path, chain), (name, point)
    if key.endswith(")") and isinstance(before, str) and before.startswith("("):
        words = f"a list has brackets: write `{name}: [{before[1:]}, {key[:-1]}]`"
        return no_value(place, key, words, path, chain), None
    head, separator, tail = key.partition(":") if ":" in key else key.partition(" ")
    meant = (head.strip(), tail.strip())
    if all(meant) and re.fullmatch(r"\w+", meant[0]):
        missing = "a space is missing after the colon" if separator == ":" else "a colon is missing"
        return no_value(place, key, f"{missing}: write `{meant[0]}: {meant[1]}`", path, chain), meant
    return no_value(place, key, f"write `{key}: VALUE`, such as `{key}: true`, or remove it", path, chain), None


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
    return syntax_error(place, started, message, (before, text.text[index : index + 1]), text.chain)

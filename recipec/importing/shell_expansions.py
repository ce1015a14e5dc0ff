"""Values that a shell makes of a variable's value alone: ``${NAME##*/}``, ``${NAME/a/b}``, ``${NAME:0:4}``."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate

_CUT = re.compile(r"(##?|%%?)(.*)", re.DOTALL)
_REPLACED = re.compile(r"(//?)((?:[^/\\]|\\.)+)(?:/(.*))?", re.DOTALL)
_PART = re.compile(r":\s*(\d+)(?::(\d+))?")
MOST_COMPARED = 1000
"""Characters of a value and a pattern."""
_CASES: dict[str, Callable[[str], str]] = {
    ",,": str.lower,
    "^^": str.upper,
    ",": lambda text: text[:1].lower() + text[1:],
    "^": lambda text: text[:1].upper() + text[1:],
}


def changed(value: str, how: str) -> str | None:
    """Return what ``how``, the rest of ``${NAME…}``, makes of a value; None if it is something else.

    >>> changed("Qwen/Qwen2.5-7B", "##*/"), changed("a.tar.gz", "%.*"), changed("a-b", "//-/_"), changed("abcd", ":1:2")
    ('Qwen2.5-7B', 'a.tar', 'a_b', 'bc')
    """
    if len(value) + len(how) > MOST_COMPARED:
        return None
    if how in _CASES:
        return _CASES[how](value)
    if found := _CUT.fullmatch(how):
        return _cut(value, found[1], found[2])
    if found := _PART.fullmatch(how):
        start = int(found[1])
        return value[start : start + int(found[2])] if found[2] else value[start:]
    if (found := _REPLACED.fullmatch(how)) and not re.search(r"[*?\[]", found[2]):
        pattern = re.sub(r"\\(.)", r"\1", found[2])
        return value.replace(pattern, found[3] or "", -1 if found[1] == "//" else 1)
    return None


def _cut(value: str, operator: str, pattern: str) -> str:
    """Remove the shortest or longest start or end that a pattern fits."""
    fits = re.compile(translate(pattern)).match
    ends = range(len(value) + 1)
    if operator in {"##", "%"}:
        ends = ends[::-1]
    if operator.startswith("#"):
        return next((value[end:] for end in ends if fits(value[:end])), value)
    return next((value[:end] for end in ends if fits(value[end:])), value)


def item(values: Sequence[str], index: str) -> str | None:
    """Return an item of an array by its index; None if there is none."""
    return values[int(index)] if index.isdigit() and int(index) < len(values) else None

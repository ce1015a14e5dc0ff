"""Lines of the user's text as they can be shown: escaped, measured in cells, cut around what matters."""

from __future__ import annotations

import re
import unicodedata

WIDTH = 110
"""Cells of a source line that are shown at most; longer ones are cut around the caret."""
SECRET = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|AKIA[A-Z0-9]{16})"
    r"|(?<=://)[^\s/:@]+:[^\s/@${}]+(?=@)"
)
"""What has the form of an access token of a known service, or of a user and a password in an address."""
_TAB = "    "
_CUT = "…"
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Escape what a terminal would obey or hide: control, bidirectional and unassigned characters.

    >>> print(visible("a\u202eb\x1b[31m\n"))
    a\u202eb\x1b[31m\n
    """
    if text.isprintable():
        return text
    return "".join(_shown(character) for character in text)


def hidden(text: str) -> str:
    """Cover access tokens, character by character, so that positions stay.

    >>> hidden("token: hf_" + "a" * 16)
    'token: hf_••••••••••••••••'
    """
    return SECRET.sub(lambda match: match[0][:3] + "•" * (len(match[0]) - 3), text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    return character.encode("unicode_escape").decode("ascii")


def cells(text: str) -> int:
    """Count the terminal cells of shown text: two for wide characters, none for combining ones.

    >>> cells("ab"), cells("試"), cells("e\u0301")
    (2, 2, 1)
    """
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def excerpt(line: str, start: int, end: int) -> tuple[str, int, int]:
    r"""Show a line with the stretch from column ``start`` to ``end`` (0-based, exclusive) in view.

    Returns the shown line, the cells before the stretch, and the stretch's own cells (at least 1).

    >>> excerpt("\tkey: 試", 6, 7)
    ('    key: 試', 9, 2)
    """
    start = min(start, len(line))
    left = max(0, start - 2 * WIDTH)  # what is out of view is not measured: a line may be as long as a file
    near = hidden(line)[left : start + 2 * WIDTH]
    pieces = [_TAB if character == "\t" else _shown(character) for character in near]
    start, end = start - left, min(max(end, start) - left, len(pieces))
    first, last = 0, len(pieces)
    widths = [cells(piece) for piece in pieces]
    if sum(widths) > WIDTH:
        first, last = _window(widths, start, end)
    head = _CUT if left + first else ""
    tail = _CUT if left + last < len(line) else ""
    under = max(1, sum(widths[start : min(end, last)]))
    return head + "".join(pieces[first:last]) + tail, len(head) + sum(widths[first:start]), under


def _window(widths: list[int], start: int, end: int) -> tuple[int, int]:
    """Choose which pieces to show: the stretch, then what is around it, more before than after."""
    first = last = start
    room = WIDTH - 2
    while last < end and room >= widths[last]:
        room -= widths[last]
        last += 1
    before = room * 2 // 3
    while first > 0 and before >= widths[first - 1]:
        first -= 1
        before -= widths[first]
        room -= widths[first]
    while last < len(widths) and room >= widths[last]:
        room -= widths[last]
        last += 1
    while first > 0 and room >= widths[first - 1]:
        first -= 1
        room -= widths[first]
    return first, last

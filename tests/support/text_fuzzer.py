"""Texts of recipes for a fuzzer: shipped ones and those that were kept, changed by characters, lines and splices."""

import random
from pathlib import Path

from support.recipe_fuzzer import RECIPES

KEPT = Path(__file__).resolve().parents[1] / "properties" / "texts"
"""Texts that once had a fault, and others that reach a message of their own; a new finding is added here."""
PIECES = (
    ":", ": ", ":\n", "- ", "-\n", "? ", "?", "#", " #", "'", '"', "\\", "\\x", "\\u12", '"\\', "''", "{", "}", "[",
    "]", ",", "&a ", "*a", "*b", "<<: *a\n", "!", "!!int ", "!tag", "!<x> ", "|", "|2\n", ">-\n", "|+9\n",
    "%YAML 1.1\n", "%TAG ! x\n", "---\n", "...\n", "--- ", "\t", "  ", "\r", "\r\n", "\n", "\n\n", "\0", "\x07",
    "\x1b[31m", "\x7f", "\x85", "\xa0", "\u2028", "\u202e", "\ufeff", "\ud800", "\U0001f600", "é", "${", "${vars.x}",
    "${vars", "$", "${${a}}", "~", "null", ".inf", "-.nan", "0x", "0o9", "1e999", "1_000", "12:30:45", "2001-01-01",
    "yes", "a: &a [*a]", "{a", "[a", "{a: b, ", "{,}", "[,", "`", "@x", "extends: [", "extends: [./x.yaml]\n",
    "stages:\n", "  kind: rl\n", "type: ", "reward: {", "recipec: 1\n", "=", "%", "|x\n",
)  # fmt: skip


def texts() -> list[str]:
    """Read the texts to start from."""
    paths = [*sorted(RECIPES.rglob("*.yaml")), *sorted(KEPT.glob("*.yaml"))]
    return [text_of_file(path) for path in paths]


def text_of_file(path: Path) -> str:
    """Read a text as it is, line ends and lone surrogates too."""
    return path.read_bytes().decode("utf-8", errors="surrogatepass")


def changed_text(known: list[str], draw: random.Random) -> str:
    """Draw a text and change it one to six times."""
    text = draw.choice(known)
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        text = draw.choice((_characters, _characters, _piece, _piece, _piece, _lines, _indent, _splice, _repeat))(
            text, known, draw
        )
    return text


def _span(length: int, draw: random.Random, most: int = 12) -> tuple[int, int]:
    start = draw.randint(0, length)
    return start, min(length, start + draw.randint(0, most))


def _characters(text: str, known: list[str], draw: random.Random) -> str:
    """Leave characters out, or put others of the same text in their place."""
    del known
    start, end = _span(len(text), draw)
    again, until = _span(len(text), draw)
    return text[:start] + (text[again:until] if draw.random() < 0.5 else "") + text[end:]


def _piece(text: str, known: list[str], draw: random.Random) -> str:
    """Put a piece of YAML, or a character that is hard to read, into the text."""
    del known
    start, end = _span(len(text), draw, 3)
    return text[:start] + draw.choice(PIECES) + text[start if draw.random() < 0.6 else end :]


def _lines(text: str, known: list[str], draw: random.Random) -> str:
    """Leave lines out, repeat them, or put them elsewhere."""
    del known
    lines = text.splitlines(keepends=True)
    start, end = _span(len(lines), draw, 4)
    taken, rest = lines[start:end], lines[:start] + lines[end:]
    place = draw.randint(0, len(rest))
    deed = draw.random()
    return "".join(rest if deed < 0.3 else [*rest[:place], *taken * (1 if deed < 0.7 else 2), *rest[place:]])


def _indent(text: str, known: list[str], draw: random.Random) -> str:
    """Move lines to the right or to the left."""
    del known
    lines = text.splitlines(keepends=True)
    start, end = _span(len(lines), draw, 6)
    by = draw.choice(("\t", " ", "  ", "   ", ""))
    return "".join([*lines[:start], *(by + line if by else line[1:] for line in lines[start:end]), *lines[end:]])


def _splice(text: str, known: list[str], draw: random.Random) -> str:
    """Go on with a part of another text."""
    other = draw.choice(known)
    start, _ = _span(len(text), draw)
    again, until = _span(len(other), draw, 400)
    return text[:start] + other[again:until] + (text[start:] if draw.random() < 0.7 else "")


def _repeat(text: str, known: list[str], draw: random.Random) -> str:
    """Repeat a part of the text, up to a length that a file may well have."""
    del known
    start, end = _span(len(text), draw, 40)
    part = text[start:end] or draw.choice(PIECES)
    return text[:end] + part * min(draw.choice((3, 30, 300, 3000)), 60_000 // len(part)) + text[end:]

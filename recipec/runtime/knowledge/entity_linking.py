"""Find the entities that a text mentions: the longest label at each place, ignoring case, accents and plural."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from recipec.runtime.knowledge.statements import Link

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|(?:[^\W_\u3040-\u30ff\u3400-\u9fff][\u0300-\u036f]*)+")
_NAMELESS = "a an and are as at be by for from has have in is it its no not of on or other the to with"
_EMPTY = frozenset(_NAMELESS.split())


@dataclass(frozen=True, slots=True)
class Word:
    """A folded word, and its place: characters ``start`` to ``end``.

    Example: ``Word("ulcer", 10, 16)`` of "Sjögren's Ulcers".
    """

    text: str
    start: int
    end: int


def words(text: str) -> list[Word]:
    """Split a text into folded words, without the `s` after an apostrophe.

    >>> [word.text for word in words("Sjögren's ulcers, DRY eyes")]
    ['sjogren', 'ulcer', 'dry', 'eye']
    """
    matches = [Word(fold(match.group()), match.start(), match.end()) for match in _WORD.finditer(text)]
    return [word for word in matches if word.text and not _possessive(text, word)]


def _possessive(text: str, word: Word) -> bool:
    return word.text == "s" and word.start > 0 and text[word.start - 1] in "'\u2019"


def fold(word: str) -> str:
    """Fold case, accents and the plain English plurals.

    >>> [fold(word) for word in ("Bullae", "Allergies", "rashes", "PSORIASIS", "Naïve", "glass", "ulcers")]
    ['bullae', 'allergy', 'rash', 'psoriasis', 'naive', 'glass', 'ulcer']
    """
    plain = unicodedata.normalize("NFKD", word)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
    if len(plain) > 4 and plain.endswith("ies"):
        return plain[:-3] + "y"
    if len(plain) > 4 and plain.endswith(("ches", "shes", "sses", "xes", "zes")):
        return plain[:-2]
    if len(plain) > 3 and plain.endswith("s") and not plain.endswith(("ss", "us", "is")):
        return plain[:-1]
    return plain


@dataclass(slots=True)
class _Place:
    """A node in the tree of labels: the label that ends here, and its children."""

    ends: list[tuple[float, str, str]] = field(default_factory=list)
    on: dict[str, _Place] = field(default_factory=dict)


class Linker:
    """Labels as a tree of folded words.

    >>> linker = Linker([("e1", "Dry skin", 1.0), ("e2", "skin", 1.0)])
    >>> [(link.entity, link.start, link.end) for link in linker.links("His skin? Very DRY skin.")]
    [('e2', 4, 8), ('e1', 15, 23)]
    """

    def __init__(self, labels: Iterable[tuple[str, str, float]]) -> None:
        """``labels`` are (entity, label, score); of entities with one label the best, then the first is used."""
        self.root = _Place()
        for entity, label, score in labels:
            folded = [word.text for word in words(label)]
            if not folded or all(word in _EMPTY for word in folded):
                continue
            place = self.root
            for word in folded:
                place = place.on.setdefault(word, _Place())
            place.ends.append((-score, entity, label))

    def links(self, text: str) -> list[Link]:
        """Return the entities that a text mentions, in order and without overlap."""
        return list(self._links(text))

    def _links(self, text: str) -> Iterator[Link]:
        spoken = words(text)
        at = 0
        while at < len(spoken):
            length, place = self._longest(spoken, at)
            if place is None:
                at += 1
                continue
            score, entity, label = min(place.ends)
            yield Link(entity, label, spoken[at].start, spoken[at + length - 1].end, -score)
            at += length

    def _longest(self, spoken: list[Word], at: int) -> tuple[int, _Place | None]:
        place, best, length = self.root, None, 0
        for step, word in enumerate(spoken[at:], 1):
            following = place.on.get(word.text)
            if following is None:
                break
            place = following
            if place.ends:
                best, length = place, step
        return length, best

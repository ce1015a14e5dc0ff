"""Phrases that many messages share: lists of names, and names that may have been meant."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import lru_cache
from itertools import islice

MAX_LENGTH = 80
"""Characters of a word that may be a misspelt name."""
MAX_NAMES = 200
"""Names that are compared with a word, so that the time for many mistakes grows with their number only."""


def listed(names: Iterable[str], most: int = 12) -> str:
    """Quote names, and count those beyond the first ``most``.

    >>> listed(["a", "b", "c"], 2), listed([])
    ('`a`, `b` and 1 more', 'none')
    """
    known = list(names)
    first = ", ".join(f"`{name}`" for name in known[:most])
    return (first + (f" and {len(known) - most} more" if len(known) > most else "")) or "none"


def first_line(error: Exception) -> str:
    r"""Return the first line of a library's error, or its name.

    >>> first_line(OSError("403 Forbidden\nhow to fix it")), first_line(KeyError())
    ('403 Forbidden', 'KeyError')
    """
    return str(error).strip().partition("\n")[0] or type(error).__name__


@lru_cache(maxsize=4096)
def folded(word: str) -> str:
    """Write a name in lower case with underscores, without accents.

    >>> folded("numGenerations"), folded("top-p"), folded("Été")
    ('num_generations', 'top_p', 'ete')
    """
    word = "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
    return re.sub(r"[-\s.]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word)).lower()


def distance(one: str, other: str) -> int:
    """Count the insertions, deletions, substitutions and swaps of neighbours between two names.

    >>> distance("epsilon", "espilon"), distance("epsilon", "epsilom"), distance("topP", "top_p")
    (1, 1, 0)

    References:
        Damerau, *A technique for computer detection and correction of spelling errors*, 1964.
    """
    from rapidfuzz.distance import OSA  # noqa: PLC0415 - it costs 20 ms, only after a mistake

    return OSA.distance(folded(one), folded(other))


def nearest(word: str, names: Iterable[str], taken: Collection[str] = (), most: int = MAX_NAMES) -> list[str]:
    """Return up to three names that ``word`` may stand for, the likeliest first; names already ``taken`` come last.

    No more than the first ``most`` names are compared: a recipe may have any number of them.

    >>> nearest("epsilom", ["beta", "epsilon_high", "epsilon"])
    ['epsilon']
    >>> nearest("zzz", ["beta", "epsilon"])
    []
    """
    from rapidfuzz.distance import OSA, Indel  # noqa: PLC0415 - as above

    if not 0 < len(word) <= MAX_LENGTH:
        return []
    plain = folded(word)
    letters = sorted(plain)
    ranked = []
    for name in dict.fromkeys(islice(names, most)):
        if name == word:
            continue
        other = folded(name)
        edits, similarity = OSA.distance(plain, other), Indel.normalized_similarity(plain, other)
        if edits <= max(1, min(len(plain), len(other)) // 3) or similarity >= 0.7:
            other_letters = sorted(other) != letters  # a swap of letters is likelier than another word
            ranked.append((edits + (name in taken), other_letters, -similarity, name))
    return [name for *_, name in sorted(ranked)][:3]


def question(names: Iterable[str], word: str = "") -> str:
    """Ask whether one of ``names`` was meant by ``word``; empty if there are none.

    >>> question(["beta", "betas"]), question([])
    ('did you mean `beta` or `betas`?', '')
    >>> question(["kind"], "k\u0456nd")
    'did you mean `kind`? Letter 2 is U+0456, CYRILLIC SMALL LETTER BYELORUSSIAN-UKRAINIAN I'
    """
    either = " or ".join(f"`{name}`" for name in names)
    strange = next((place for place, letter in enumerate(word) if not letter.isascii()), None)
    if not either or strange is None:
        return f"did you mean {either}?" if either else ""
    letter = word[strange]
    called = unicodedata.name(letter, "a character without a name")
    return f"did you mean {either}? Letter {strange + 1} is U+{ord(letter):04X}, {called}"


def did_you_mean(word: str, names: Iterable[str], most: int = MAX_NAMES) -> str:
    """Ask whether a name similar to ``word`` was meant; empty if there is none.

    >>> did_you_mean("epsilom", ["epsilon", "beta"]), did_you_mean("x", ["beta"])
    ('did you mean `epsilon`?', '')
    """
    return question(nearest(word, names, most=most), word)

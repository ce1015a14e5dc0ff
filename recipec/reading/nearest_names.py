"""Did you mean: the known names nearest to a misspelt one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from difflib import SequenceMatcher

_LONGEST = 80  # longer words are no typos, and the distance is quadratic


def distance(one: str, other: str) -> int:
    """Count the insertions, deletions, substitutions and swaps of neighbours between two words.

    >>> distance("epsilon", "espilon"), distance("epsilon", "epsilom"), distance("beta", "beta")
    (1, 1, 0)

    References:
        Damerau, *A technique for computer detection and correction of spelling errors*, 1964.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        older, before, row = before, row, [i]
        for j, against in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != against))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == against:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1]


def folded(word: str) -> str:
    """Write a name as ours are written.

    >>> folded("numGenerations"), folded("top-p"), folded("Été")
    ('num_generations', 'top_p', 'ete')
    """
    word = "".join(letter for letter in unicodedata.normalize("NFKD", word) if not unicodedata.combining(letter))
    return re.sub(r"[-\s.]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word)).lower()


def nearest(word: object, names: Iterable[str], given: Collection[str] = ()) -> list[str]:
    """Return up to three names that ``word`` may have meant, the likeliest first; names already given come last.

    >>> nearest("epsilom", ["beta", "epsilon_high", "epsilon"])[0]
    'epsilon'
    >>> nearest("zzz", ["beta", "epsilon"])
    []
    """
    if not isinstance(word, str) or not word or len(word) > _LONGEST:
        return []
    said = folded(word)
    ranked = []
    for name in names:
        plain = folded(name)
        edits = distance(said, plain)
        alike = SequenceMatcher(None, said, plain).ratio()
        if edits <= max(1, min(len(said), len(plain)) // 3) or alike >= 0.7:
            other_letters = sorted(said) != sorted(plain)  # a swap of letters is likelier than another word
            ranked.append((edits + (name in given), other_letters, -alike, name))
    return [name for *_, name in sorted(ranked)][:3]


def did_you_mean(names: Iterable[str]) -> str:
    """Ask about the names found, or say nothing.

    >>> did_you_mean(["beta", "betas"]), did_you_mean([])
    ('did you mean `beta` or `betas`?', '')
    """
    listed = " or ".join(f"`{name}`" for name in names)
    return f"did you mean {listed}?" if listed else ""

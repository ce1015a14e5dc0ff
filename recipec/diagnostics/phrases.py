"""Phrases that many messages share: lists of names, and names that may have been meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice


def listed(names: Iterable[str], most: int = 12) -> str:
    """Quote names, and count those beyond the first ``most``.

    >>> listed(["a", "b", "c"], 2), listed([])
    ('`a`, `b` and 1 more', 'none')
    """
    known = list(names)
    shown = ", ".join(f"`{name}`" for name in known[:most])
    return (shown + (f" and {len(known) - most} more" if len(known) > most else "")) or "none"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known name nearest to a word, or nothing."""
    few = list(islice(dict.fromkeys(known), 200))  # the search is quadratic, and suggestions are for people
    return next(iter(get_close_matches(word[:80], few, 1, 0.6)), "")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean …?``, or nothing where no known name is near.

    >>> did_you_mean("epsilom", ["epsilon", "beta"]), did_you_mean("x", ["beta"])
    ('did you mean `epsilon`?', '')
    """
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else ""

"""The values of a recipe as it was run, read from `resolved.txt`."""

from __future__ import annotations


def resolved_values(listing: str) -> dict[str, str]:
    """Read the lines of a resolved recipe: each key with its value as text.

    >>> resolved_values("seed: 0    # r.yaml:6:7")
    {'seed': '0'}
    """
    values = {}
    for line in listing.splitlines():
        key, separator, rest = line.partition(": ")
        if separator:
            values[key] = rest.rpartition("  # ")[0].strip() or rest
    return values

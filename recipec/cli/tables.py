"""Output of `recipec credit` and `recipec certify`, as JSON or as a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_IDS = ("prompt_id", "tree_id", "episode_id", "episode", "step", "episode_step", "reward")
_WIDE = 24


def credit_json(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield one JSON object per row.

    >>> list(credit_json([{"reward": 1, "advantage": 0.5}]))
    ['{"reward": 1, "advantage": 0.5}']
    """
    for row in rows:
        yield json.dumps(row, ensure_ascii=True, allow_nan=False)


def credit_table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table: ids of a row, its groups, the advantage of each level, and the combined advantage.

    >>> row = {"prompt_id": "a", "reward": 1, "advantage": 0.5, "levels": {"group": 0.5}, "groups": {"by_prompt_R": 0}}
    >>> print(*credit_table([row]), sep=chr(10))
    prompt_id  reward  by_prompt_R   group  advantage
    a               1            0  0.5000     0.5000
    """
    ids = [name for name in _IDS if any(name in row for row in rows)]
    groups, levels = list(rows[0]["groups"]), list(rows[0]["levels"])
    head = [*ids, *groups, *levels, "advantage"]
    lines = [
        [_cell(row.get(name)) for name in ids]
        + [_cell(row["groups"][name]) for name in groups]
        + [f"{row['levels'][name]:.4f}" for name in levels]
        + [f"{row['advantage']:.4f}"]
        for row in rows
    ]
    widths = [max(len(line[place]) for line in (head, *lines)) for place in range(len(head))]
    for line in (head, *lines):
        first, *rest = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        yield "  ".join((first, *rest)).rstrip()


def _cell(value: Any) -> str:
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _WIDE else f"{text[: _WIDE - 1]}…"


def certified(certificate: Mapping[str, Any], *, as_json: bool) -> str:
    """Format the result of `certify`.

    >>> print(certified({"equal": True, "token_ratio": 2.25}, as_json=False))
    equal       yes
    token_ratio 2.25
    """
    if as_json:
        return json.dumps(certificate)
    width = max(map(len, certificate))
    plain = {True: "yes", False: "no"}
    values = {
        name: plain[value] if isinstance(value, bool) else f"{value:.3g}" if isinstance(value, float) else str(value)
        for name, value in certificate.items()
    }
    return "\n".join(f"{name.ljust(width)} {value}" for name, value in values.items())

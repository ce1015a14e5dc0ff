"""Plain scalars by the YAML 1.2 core schema."""

from __future__ import annotations

import math
import re
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

MAX_DIGITS = 300
"""An integer of more digits is larger than any float."""

_INT = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")
"""An integer that readers of YAML 1.1 take for an octal one, or a text of digits that lost its quotes."""
_SPECIAL: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((s + i for s in ("", "+") for i in (".inf", ".Inf", ".INF")), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


def read_scalar(text: str) -> tuple[Scalar, str]:
    """Return the value of a plain scalar by the YAML 1.2 core schema, and what is wrong with it.

    >>> [read_scalar(t)[0] for t in ("1e-5", "no", "010", "0o17", "0x1F", "12:30", "1_000", "~")]
    [1e-05, 'no', 10, 15, 31, '12:30', '1_000', None]
    """
    if text in _SPECIAL:
        return _SPECIAL[text], ""
    if text[0] not in "+-.0123456789":
        return text, ""
    if _INT.match(text):
        if len(text) > MAX_DIGITS:
            return None, f"longer than {MAX_DIGITS} digits"
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)), ""
    if _FLOAT.match(text):
        number = float(text)
        return (number, "") if math.isfinite(number) else (None, "too large to be held")
    return text, ""

"""Conditions on other names, and values that are computed from two."""

from __future__ import annotations

from typing import Any

from recipec.reading.foreign.converters.plain import same
from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Refused,
    Values,
    condition,
    converter,
    number,
    number_or_zero,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row

_WITHOUT_ADAPTER = ("full", "freeze")
"""Kinds of fine-tuning without an adapter."""


@condition
def active(file: File, key: str) -> str:
    """While another name is on; numbers up to 0, and kinds of fine-tuning without an adapter, are off."""
    switch = file.get(key)
    number_ = not isinstance(switch, bool) and str(switch).lstrip("-").isdigit()
    off = not on(switch) or str(switch) in _WITHOUT_ADAPTER or (number_ and int(switch) <= 0)
    return f"`{key}` is off" if off else ""


@condition
def enabled(file: File, key: str) -> str:
    """While a switch is on."""
    return "" if on(file.get(key)) else f"`{key}` is off"


@condition
def not_off(file: File, key: str) -> str:
    """Unless a switch is given, and off."""
    return f"`{key}` is off" if file.get(key) is not None and not on(file.get(key)) else ""


@condition
def present(file: File, key: str) -> str:
    """While another name is set."""
    return "" if on(file.get(key)) else f"`{key}` is not set"


@condition
def has(file: File, key: str, expected: str) -> str:
    """While one of some names, with `|` between, has one value."""
    names = key.split("|")
    return "" if expected in (str(file.get(name)) for name in names) else f"`{names[0]}` is not `{expected}`"


@condition
def has_not(file: File, key: str, *values: str) -> str:
    """Unless another name has one of some values."""
    return f"`{file.get(key)}` decides" if str(file.get(key)) in values else ""


@condition
def disabled(file: File, key: str) -> str:
    """Unless a switch is on."""
    return f"`{key}` decides" if on(file.get(key)) else ""


@condition
def undecided(file: File, *keys: str) -> str:
    """Unless another name has a value, which is not below 0."""
    decides = (key for key in keys if on(file.get(key)) and number_or_zero(file.get(key)) >= 0)
    return next((f"`{key}` decides" for key in decides), "")


@condition
def not_with(file: File, key: str) -> str:
    """Unless a switch is on with which the value is not read."""
    return f"`{key}` does not read it" if on(file.get(key)) else ""


@condition
def no_positive(file: File, key: str) -> str:
    """Unless another number is above 0."""
    return f"`{key}` decides" if number_or_zero(file.get(key)) > 0 else ""


@condition
def absent(file: File, key: str) -> str:
    """Unless another name is set, also to 0."""
    return f"`{key}` decides" if file.get(key) is not None else ""


@of_value
def unless_value(value: Any, usual: str) -> Any:
    """A value that need not be written where it is the usual one."""
    if value == usual:
        raise Needless("it is the default")
    return same(value)


@of_value
def trained_on(value: Any) -> Any:
    """Whether answers alone are trained, or all tokens."""
    if value is None:
        raise Needless("it is not set")
    return "answers" if on(value) else "all"


@converter
def gate(value: Any, row: Row, file: File, key: str) -> Values:
    """A switch of what another name gives: reported with that name."""
    raise Needless(f"with `{key}`" if on(value) else "it is off")


@converter
def same_as(value: Any, row: Row, file: File, *keys: str) -> Values:
    """What cannot be another value than that of another name."""
    if value is None or any(value == file.get(key) for key in keys):
        raise Needless(f"it is that of `{keys[0]}`")
    raise Refused(row.note)


@converter
def product_of(value: Any, row: Row, file: File, key: str) -> Values:
    """A share of another number, the first of some names that is given; here it is a number of its own."""
    whole_ = next((file.get(name) for name in key.split("|") if file.get(name) is not None), None)
    return {row.to: round(number(value) * number(whole_), 12)}


@converter
def times(value: Any, row: Row, file: File, key: str) -> Values:
    """A product of two names."""
    total = whole(value) * whole(file.get(key) or 1)
    if total <= 1:
        raise Needless("1 is the default")
    return {row.to: total}


@converter
def at_most(value: Any, row: Row, file: File, other: str) -> Values:
    """The smaller of two bounds."""
    return {row.to: min(whole(value), whole(file.get(other) or value))}


@converter
def divided(value: Any, row: Row, file: File, *keys: str) -> Values:
    """A count of samples, divided by the samples of a prompt."""
    for key in keys:
        if on(file.get(key)):
            return {row.to: divide(whole(value), whole(file.get(key)), key)}
    return {row.to: whole(value)}


def divide(count: int, by: int, what: str) -> int:
    """Divide a count of completions.

    Raises:
        Refused: there is a remainder.
    """
    if by <= 0 or count % by:
        raise Refused(f"{count} cannot be divided by {what} = {by}: say how many devices there are with `--devices`")
    return count // by


@converter
def relative(value: Any, row: Row, file: File, key: str) -> Values:
    """A number that is a share of another here."""
    peak = number_or_zero(file.get(key))
    if not number_or_zero(value) or not peak:
        raise Needless("it is 0")
    return {row.to: float(f"{number(value) / peak:.12g}")}


@converter
def pair(value: Any, row: Row, file: File, one: str, other: str, *usual: str) -> Values:
    """Two numbers that are one list here."""
    found = [file.get(name) for name in (one, other)]
    return {row.to: [number(default if item is None else item) for item, default in zip(found, usual, strict=True)]}


@converter
def refuse(value: Any, row: Row, file: File) -> Values:
    """What has a place here, but not as this value."""
    if value is None or value is False:
        raise Needless("it is not set")
    raise Refused(row.note)


@converter
def refuse_false(value: Any, row: Row, file: File) -> Values:
    """What cannot be switched off."""
    if value is not None and not on(value):
        raise Refused(row.note or "it is always on")
    raise Needless("it is always on")


@of_value
def one_plus(value: Any) -> Any:
    """A distance above 1 that is a bound here."""
    return 1 + number(value)


@of_value
def one_minus(value: Any) -> Any:
    """A distance below 1 that is a bound here."""
    return 1 - number(value)

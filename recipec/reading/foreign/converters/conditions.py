"""Values that have an effect only with another name, or are computed from two."""

from __future__ import annotations

from typing import Any

from recipec.reading.foreign.converters.plain import choice, nonzero, positive, same
from recipec.reading.foreign.converters.registry import (
    Given,
    Needless,
    Refused,
    Values,
    converter,
    number,
    number_or_zero,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row

_WITHOUT_ADAPTER = ("full", "freeze")
"""Kinds of fine-tuning without an adapter."""


@converter
def when(value: Any, row: Row, given: Given, key: str) -> Values:
    """A value that has an effect only while another name is on."""
    switch = given.get(key)
    if (
        not on(switch)
        or str(switch) in _WITHOUT_ADAPTER
        or (not isinstance(switch, bool) and str(switch).lstrip("-").isdigit() and int(switch) <= 0)
    ):
        raise Needless(f"`{key}` is off")
    return same(value, row, given)


@converter
def when_positive(value: Any, row: Row, given: Given, key: str) -> Values:
    """As ``when``, off at 0 and -1."""
    if not on(given.get(key)):
        raise Needless(f"`{key}` is not set")
    return positive(value, row, given)


@converter
def when_value(value: Any, row: Row, given: Given, key: str, expected: str) -> Values:
    """A value that has an effect only while another name has one value."""
    names = key.split("|")
    if expected not in (str(given.get(name)) for name in names):
        raise Needless(f"`{names[0]}` is not `{expected}`")
    return same(value, row, given)


@converter
def percent_when(value: Any, row: Row, given: Given, key: str, expected: str) -> Values:
    """A percentage that is a share here, while another name has one value."""
    return {path: round(number(to) / 100, 12) for path, to in when_value(value, row, given, key, expected).items()}


@converter
def unless_value(value: Any, row: Row, given: Given, usual: str) -> Values:
    """A value that need not be written where it is the usual one."""
    if value == usual:
        raise Needless("it is the default")
    return same(value, row, given)


@converter
def trained_on(value: Any, row: Row, given: Given) -> Values:
    """Whether answers alone are trained, or all tokens."""
    del given
    if value is None:
        raise Needless("it is not set")
    return {row.to: "answers" if on(value) else "all"}


@converter
def choice_when(value: Any, row: Row, given: Given, key: str) -> Values:
    """A choice that has an effect only while another name is on."""
    if not on(given.get(key)):
        raise Needless(f"`{key}` is off")
    return choice(value, row, given)


@converter
def choice_unless(value: Any, row: Row, given: Given, key: str) -> Values:
    """A choice that another switch overrides."""
    if on(given.get(key)):
        raise Needless(f"`{key}` decides")
    return choice(value, row, given)


@converter
def gate(value: Any, row: Row, given: Given, key: str) -> Values:
    """A switch of what another name gives: reported with that name."""
    del row, given
    raise Needless(f"with `{key}`" if on(value) else "it is off")


@converter
def unless(value: Any, row: Row, given: Given, *keys: str) -> Values:
    """A value that another name overrides."""
    for key in keys:
        if on(given.get(key)) and number_or_zero(given.get(key)) >= 0:
            raise Needless(f"`{key}` decides")
    return same(value, row, given)


@converter
def unless_on(value: Any, row: Row, given: Given, key: str) -> Values:
    """A value that has no effect while a switch is on."""
    if on(given.get(key)):
        raise Needless(f"`{key}` does not read it")
    return same(value, row, given)


@converter
def same_as(value: Any, row: Row, given: Given, *keys: str) -> Values:
    """What cannot be another value than that of another name."""
    if value is None or any(value == given.get(key) for key in keys):
        raise Needless(f"it is that of `{keys[0]}`")
    raise Refused(row.note)


@converter
def product_of(value: Any, row: Row, given: Given, key: str) -> Values:
    """A share of another number, which is a number of its own here."""
    return {row.to: round(number(value) * number(given.get(key)), 12)}


@converter
def unless_positive(value: Any, row: Row, given: Given, key: str) -> Values:
    """A number that a positive other one overrides."""
    if number_or_zero(given.get(key)) > 0:
        raise Needless(f"`{key}` decides")
    return nonzero(value, row, given)


@converter
def unless_set(value: Any, row: Row, given: Given, key: str) -> Values:
    """A number that another one overrides, also if that is 0."""
    if given.get(key) is not None:
        raise Needless(f"`{key}` decides")
    return nonzero(value, row, given)


@converter
def times(value: Any, row: Row, given: Given, key: str) -> Values:
    """A product of two names."""
    total = whole(value) * whole(given.get(key) or 1)
    if total <= 1:
        raise Needless("1 is the default")
    return {row.to: total}


@converter
def at_most(value: Any, row: Row, given: Given, other: str) -> Values:
    """The smaller of two bounds."""
    return {row.to: min(whole(value), whole(given.get(other) or value))}


@converter
def divided(value: Any, row: Row, given: Given, *keys: str) -> Values:
    """A count of samples, divided by the samples of a prompt."""
    for key in keys:
        if on(given.get(key)):
            return {row.to: divide(whole(value), whole(given.get(key)), key)}
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
def relative(value: Any, row: Row, given: Given, key: str) -> Values:
    """A number that is a share of another here."""
    peak = number_or_zero(given.get(key))
    if not number_or_zero(value) or not peak:
        raise Needless("it is 0")
    return {row.to: float(f"{number(value) / peak:.12g}")}


@converter
def pair(value: Any, row: Row, given: Given, one: str, other: str, *usual: str) -> Values:
    """Two numbers that are one list here."""
    del value
    found = [given.get(name) for name in (one, other)]
    return {row.to: [number(default if item is None else item) for item, default in zip(found, usual, strict=True)]}


@converter
def refuse(value: Any, row: Row, given: Given) -> Values:
    """What has a place here, but not as this value."""
    del given
    if value is None or value is False:
        raise Needless("it is not set")
    raise Refused(row.note)


@converter
def refuse_false(value: Any, row: Row, given: Given) -> Values:
    """What cannot be switched off."""
    del given
    if value is not None and not on(value):
        raise Refused(row.note or "it is always on")
    raise Needless("it is always on")


@converter
def one_plus_when(value: Any, row: Row, given: Given, key: str, expected: str) -> Values:
    """A distance above 1 that is a bound here."""
    return {path: 1 + number(to) for path, to in when_value(value, row, given, key, expected).items()}


@converter
def one_minus_when(value: Any, row: Row, given: Given, key: str, expected: str) -> Values:
    """A distance below 1 that is a bound here."""
    return {path: 1 - number(to) for path, to in when_value(value, row, given, key, expected).items()}

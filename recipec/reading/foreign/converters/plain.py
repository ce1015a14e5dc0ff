"""Values that are the same here, or a switch that is a value here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from recipec.reading.foreign.converters.registry import (
    File,
    Needless,
    Noted,
    Off,
    Refused,
    Values,
    converter,
    items_of,
    number,
    number_or_zero,
    of_value,
    on,
    whole,
)
from recipec.reading.foreign.tables import Row


@of_value
def same(value: Any) -> Any:
    """The same value; text that is a number becomes one."""
    if value is None:
        raise Needless("it is not set")
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        value = number(value)
    elif isinstance(value, str) and value.lower() in {"true", "false"}:
        value = on(value)
    return value


@of_value
def positive(value: Any) -> Any:
    """A number; 0, -1 or nothing switch it off."""
    if value is None or str(value).lower() in {"null", "none"} or number_or_zero(value) <= 0:
        raise Off("it is off")
    return number(value)


@of_value
def count(value: Any) -> Any:
    """A whole number; 0, -1 or nothing switch it off."""
    return whole(positive(value))


@of_value
def percent(value: Any) -> Any:
    """A percentage that is a share here."""
    return round(number(same(value)) / 100, 12)


@of_value
def nonzero(value: Any) -> Any:
    """A number or switch that is off at 0."""
    if not on(value) or re.fullmatch(r"[+-]?0*\.?0*", str(value)):
        raise Off("it is off")
    return same(value)


@of_value
def above_one(value: Any) -> Any:
    """A degree of parallelism, 1 by default."""
    if number_or_zero(value) <= 1:
        raise Needless("1 is the default")
    return whole(value)


@of_value
def flag(value: Any, ours: str) -> Any:
    """A switch that is one value here."""
    if not on(value):
        raise Needless("it is off")
    return ours


@of_value
def flag_number(value: Any, ours: str) -> Any:
    """A switch that is one number here."""
    return number(flag(value, ours))


@of_value
def flag_list(value: Any, ours: str) -> Any:
    """A switch that is one item of a list here."""
    return [flag(value, ours)]


@of_value
def section(value: Any, ours: str) -> Any:
    """A section that is one value here."""
    del value
    return ours


@of_value
def truth(value: Any) -> Any:
    """A switch that may be a word."""
    return on(value)


@of_value
def negated(value: Any) -> Any:
    """A switch of the opposite."""
    return not on(value)


@of_value
def yes_no(value: Any, yes: str, no: str) -> Any:
    """A switch that is one of two values here."""
    return yes if on(value) else no


@of_value
def list_(value: Any) -> Any:
    """A list, also where one item or a text of a list is given."""
    items = items_of(value)
    if not items:
        raise Needless("it is empty")
    return items


@of_value
def first(value: Any) -> Any:
    """The first item of a list."""
    items = items_of(value)
    if not items:
        raise Needless("it is empty")
    if len({*map(str, items)}) > 1:
        raise Refused("several are given, and a stage has one")
    return str(items[0])


@converter
def choice(value: Any, row: Row, file: File) -> Values:
    """A value of the tool's, by its table."""
    if value is None or value == "null":
        raise Needless("it is not set")
    if isinstance(value, list):
        if len(value) != 1:
            raise Refused("several are given, and one can be written")
        value = value[0]
    key = str(value).lower() if isinstance(value, bool) else str(value)
    known = file.choices(row.name)
    ours = known.get(key, known.get(key.lower()))
    if ours is None:
        raise Refused(f"`{key}` is not known")
    if isinstance(ours, str) and ours.startswith("!"):
        raise Refused(ours[1:])
    if not isinstance(ours, Mapping):
        return {row.to: ours}
    return noted({path: _referred(to, file) for path, to in ours.items()})


def noted(entry: Mapping[str, Any]) -> Values:
    """Return the values of an entry of a table, with the note that it may have."""
    values = {path: to for path, to in entry.items() if to is not None and path != "note"}
    return Noted(values, str(entry["note"])) if "note" in entry else values


def _referred(value: Any, file: File) -> Any:
    """Return the value of the name that a table refers to as ``@NAME``."""
    if isinstance(value, str) and value.startswith("@"):
        found = file.get(value[1:])
        return None if found is None else number(found)
    return value

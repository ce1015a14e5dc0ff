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
    on,
    whole,
)
from recipec.reading.foreign.tables import Row


@converter
def same(value: Any, row: Row, file: File) -> Values:
    """The same value; text that is a number becomes one."""
    del file
    if value is None:
        raise Needless("it is not set")
    if isinstance(value, str) and re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
        value = number(value)
    elif isinstance(value, str) and value.lower() in {"true", "false"}:
        value = on(value)
    return {row.to: value}


@converter
def positive(value: Any, row: Row, file: File) -> Values:
    """A number; 0, -1 or nothing switch it off."""
    del file
    if value is None or str(value).lower() in {"null", "none"} or number_or_zero(value) <= 0:
        raise Off("it is off")
    return {row.to: number(value)}


@converter
def count(value: Any, row: Row, file: File) -> Values:
    """A whole number; 0, -1 or nothing switch it off."""
    return {path: whole(number_) for path, number_ in positive(value, row, file).items()}


@converter
def percent(value: Any, row: Row, file: File) -> Values:
    """A percentage that is a share here."""
    return {path: round(number(to) / 100, 12) for path, to in same(value, row, file).items()}


@converter
def nonzero(value: Any, row: Row, file: File) -> Values:
    """A number or switch that is off at 0."""
    if not on(value) or re.fullmatch(r"[+-]?0*\.?0*", str(value)):
        raise Off("it is off")
    return same(value, row, file)


@converter
def above_one(value: Any, row: Row, file: File) -> Values:
    """A degree of parallelism, 1 by default."""
    del file
    if number_or_zero(value) <= 1:
        raise Needless("1 is the default")
    return {row.to: whole(value)}


@converter
def flag(value: Any, row: Row, file: File, ours: str) -> Values:
    """A switch that is one value here."""
    del file
    if not on(value):
        raise Needless("it is off")
    return {row.to: ours}


@converter
def flag_number(value: Any, row: Row, file: File, ours: str) -> Values:
    """A switch that is one number here."""
    del file
    if not on(value):
        raise Needless("it is off")
    return {row.to: number(ours)}


@converter
def flag_list(value: Any, row: Row, file: File, ours: str) -> Values:
    """A switch that is one item of a list here."""
    del file
    if not on(value):
        raise Needless("it is off")
    return {row.to: [ours]}


@converter
def section(value: Any, row: Row, file: File, ours: str) -> Values:
    """A section that is one value here."""
    del value, file
    return {row.to: ours}


@converter
def truth(value: Any, row: Row, file: File) -> Values:
    """A switch that may be a word."""
    del file
    return {row.to: on(value)}


@converter
def negated(value: Any, row: Row, file: File) -> Values:
    """A switch of the opposite."""
    del file
    return {row.to: not on(value)}


@converter
def yes_no(value: Any, row: Row, file: File, yes: str, no: str) -> Values:
    """A switch that is one of two values here."""
    del file
    return {row.to: yes if on(value) else no}


@converter
def list_(value: Any, row: Row, file: File) -> Values:
    """A list, also where one item or a text of a list is given."""
    del file
    items = items_of(value)
    if not items:
        raise Needless("it is empty")
    return {row.to: items}


@converter
def first(value: Any, row: Row, file: File) -> Values:
    """The first item of a list."""
    del file
    items = items_of(value)
    if not items:
        raise Needless("it is empty")
    if len({*map(str, items)}) > 1:
        raise Refused("several are given, and a stage has one")
    return {row.to: str(items[0])}


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

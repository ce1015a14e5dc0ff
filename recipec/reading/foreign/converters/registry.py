"""The registry of converters, and how they read values.

A converter gets the value, its row, the file, and the arguments of the row's ``how``; it returns values
by path, or raises :class:`Refused` or :class:`Needless` with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from recipec.reading.foreign.tables import Row

Values = dict[str, Any]


class Noted(Values):
    """Values that have another meaning here, as the note says."""

    def __init__(self, values: Values, note: str) -> None:
        """Keep the values with their note."""
        super().__init__(values)
        self.note = note


class Refused(Exception):  # noqa: N818 - a verdict on a value, no fault of the program
    """The value cannot be written here; the text says why."""


class Needless(Exception):  # noqa: N818 - as above
    """The value need not be written here; the text says why."""


class Inactive(Needless):
    """The value has no effect, as another name says."""


class Off(Needless):
    """The value switches something off, so that no default of another name for it holds either."""


class Several(Refused):
    """There are several, each with values of its own."""

    def __init__(self, each: list[Values]) -> None:
        """Keep the values of each."""
        super().__init__(f"{len(each)} sources are given")
        self.each = each


class File(Protocol):
    """A file of another tool, as converters see it."""

    @property
    def kind(self) -> str:
        """The kind of the stage."""

    @property
    def devices(self) -> int:
        """The number of devices, 1 where the file does not say it."""

    def get(self, name: str) -> Any:
        """Return the value of another name: of the file, or else the tool's default; ``None`` where neither has it."""

    def choices(self, name: str) -> Mapping[str, Any]:
        """Return the values of a name and what they are here."""


Converter = Callable[..., Values]
Condition = Callable[..., str]
_CONVERTERS: dict[str, Converter] = {}
_CONDITIONS: dict[str, Condition] = {}
_OFF = {"false", "no", "off", "none", "null", "", "0", "~"}


_ALONE_AS = {"token_discount": "same", "save_steps": "positive", "targets": "targets"}
"""Converters that ask whether another name is on, and what they do if it is."""


_ALONE = {"choice", "dataset", "epochs", "low_high", "nodes", "offload", "rewards", "warmup", "zero", "zero_file"}
"""Converters that look at nothing but the value, next to those of a single key (``of_value``)."""


def convert(row: Row, value: Any, file: File, *, alone: bool = False) -> Values:
    """Return what a row's value is here, by path; ``alone``: conditions on other names are taken to hold.

    ``how`` of a row is a converter with its arguments and, after ``if``, a condition with its own.

    Raises:
        Refused: it cannot be written here.
        Needless: it need not be; :class:`Inactive`, since the condition does not hold.
    """
    how, _, only = row.how.partition(" if ")
    name, *arguments = how.split() or ["same"]
    if alone:
        return _CONVERTERS[_ALONE_AS.get(name, name)](value, row, file, *(() if name in _ALONE_AS else arguments))
    if only:
        condition, *others = only.split()
        if reason := _CONDITIONS[condition](file, *others):
            raise Inactive(reason)
    return _CONVERTERS[name](value, row, file, *arguments)


def on(value: Any) -> bool:
    """Whether a value switches something on, as YAML 1.1 and command lines write it.

    >>> on("False"), on("true"), on(0), on("no"), on(8)
    (False, True, False, False, True)
    """
    return bool(value) and str(value).strip().lower() not in _OFF


def converter(function: Converter) -> Converter:
    """Register a function under its own name."""
    _CONVERTERS[function.__name__.strip("_")] = function
    return function


def of_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Register a function that looks at nothing but the value, and returns what the row's key has here."""
    name = function.__name__.strip("_")
    _CONVERTERS[name] = lambda value, row, _, *arguments: {row.to: function(value, *arguments)}
    _ALONE.add(name)
    return function


def condition(function: Condition) -> Condition:
    """Register a function that says why a value has no effect, or returns an empty text."""
    _CONDITIONS[function.__name__] = function
    return function


def names() -> frozenset[str]:
    """Return the names of all converters."""
    return frozenset(_CONVERTERS)


def conditions() -> frozenset[str]:
    """Return the names of all conditions."""
    return frozenset(_CONDITIONS)


_NEVER = ("refuse_", "same_as")


def is_refused(row: Row) -> bool:
    """Whether no value of a name can be written here, but the usual one."""
    return row.how.startswith(_NEVER)


def reads_alone(row: Row) -> bool:
    """Whether a converter looks at nothing but the value, so that its result is right wherever the name is found."""
    name = (row.how.split() or ["same"])[0]
    return name in _ALONE or name in _ALONE_AS


def number(value: Any, why: str = "it is not a number") -> int | float:
    """Return a number that may be written as text, such as ``"1e-6"``.

    Raises:
        Refused: it is not a number.
    """
    if isinstance(value, bool):
        raise Refused(why)
    if isinstance(value, int | float):
        return value
    try:
        found = float(str(value).replace("_", ""))
    except ValueError:
        raise Refused(why) from None
    return int(found) if found.is_integer() and not re.search(r"[.eE]", str(value)) else found


def whole(value: Any) -> int:
    """Return a whole number.

    Raises:
        Refused: it is not a whole number.
    """
    found = number(value)
    if isinstance(found, float) and not found.is_integer():  # nor is infinity one
        raise Refused("it is not a whole number")
    return int(found)


def number_or_zero(value: Any) -> float:
    """Return a number, 0 for anything else."""
    try:
        return float(number(value))
    except Refused:
        return 0.0


def items_of(value: Any) -> list[Any]:
    """Return the items of a list, of a text of a list, or a single value as a list."""
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip().strip("[]")
        return [part.strip().strip("'\"") for part in text.split(",") if part.strip().strip("'\"")]
    return [*value] if isinstance(value, tuple | list) else [value]

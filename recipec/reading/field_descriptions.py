"""Describe the type of a parameter in words, for error messages and documentation."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from recipec.component import Section, is_signal

FORMS = {
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$": "1 to 100 letters, digits, `.`, `_` and `-`, starting with a letter or digit",
    r"^(avg@[1-9]\d*|pass@[1-9]\d*|reward\.[a-z][a-z0-9_]*)$": (
        "`avg@K` or `pass@K` with a number K, or `reward.LEVEL` with a level of `reward`"
    ),
    r"^[A-Za-z][A-Za-z0-9_-]*$": "letters, digits, `_` and `-`, starting with a letter",
    r"[^\W_]": "a string with a letter or a digit",
    r"\{subject\}(.|\n)*\{object\}|\{object\}(.|\n)*\{subject\}": "a string with `{subject}` and `{object}`",
    r"^[A-Za-z]+:[^\s<>\x22{}|\\^`]*[:/#]$": "the start of an IRI, such as `https://example.com/`",
    r"^RECIPEC_[A-Za-z0-9_]+$": "the name of an environment variable that starts with `RECIPEC_`",
    r"^[^@]+$": "an address without user name and password",
    r"^(\.\.?/|/|package:).": "a directory that starts with `./`, `../` or `/`, or `package:…`",
}
"""Descriptions of the patterns of the models; a test checks that the table is complete."""
_MAX_VALUE = 60


class FieldType(NamedTuple):
    """The type of a field: its annotation, constraints, unit and description.

    Example: ``FieldType(int, (Ge(1),), "tokens", "Maximum length of a turn.")``.
    """

    annotation: Any
    metadata: tuple[Any, ...]
    unit: str
    doc: str

    def describe(self) -> str:
        """Describe the type, with bounds and unit."""
        text = expected(self.annotation, self.metadata)
        return f"{text}, in {self.unit}" if self.unit else text


def field_type(cls: type[BaseModel], path: Sequence[str | int]) -> FieldType | None:
    """Return the type of the field at ``path`` below a section; ``None`` if any value is allowed."""
    info = field_of(cls, path[0])
    if info is None:
        return None
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    field = FieldType(info.annotation, tuple(info.metadata), str(extra.get("unit", "")), info.description or "")
    for index, part in enumerate(path[1:], 1):
        around = section_of(field.annotation)
        if around is not None and isinstance(part, str):
            return field_type(around, path[index:])
        within = inside(field.annotation, part)
        section = section_of(within)
        if section is not None and index + 1 < len(path):
            return field_type(section, path[index + 1 :])
        if within is None:
            return None
        field = FieldType(*_opened(within, ()), field.unit, field.doc)
    return field


def field_of(cls: type[BaseModel], key: str | int) -> FieldInfo | None:
    """Return the field that files call ``key``."""
    return next((info for name, info in cls.model_fields.items() if (info.alias or name) == key), None)


def keys_of(cls: type[BaseModel]) -> list[str]:
    """List the keys of a section as files write them."""
    inside = getattr(cls, "written_inside", {})
    return [info.alias or name for name, info in cls.model_fields.items() if name not in inside]


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section among the types of a parameter, if one of them is a section."""
    for choice, _ in _choices(annotation):
        if isinstance(choice, type) and issubclass(choice, Section):
            return choice
    return None


def named_sections(annotation: Any) -> type[Section] | None:
    """Return the section of a mapping of named sections, such as the sources of a mixture."""
    if get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
        if isinstance(inner, type) and issubclass(inner, Section):
            return inner
    return None


def inside(annotation: Any, part: str | int) -> Any:
    """Return the annotation of an item of a list or mapping, or of a field of a section."""
    for choice, _ in _choices(annotation):
        origin, args = get_origin(choice), get_args(choice)
        if isinstance(part, int) and origin in {tuple, list} and args:
            return args[0] if len(args) == 1 or args[1] is Ellipsis else args[min(part, len(args) - 1)]
        if isinstance(part, str) and origin is dict:
            return args[1]
        if isinstance(part, str) and isinstance(choice, type) and issubclass(choice, Section):
            info = field_of(choice, part)
            return Annotated[info.annotation, *info.metadata] if info and info.metadata else info and info.annotation
    return None


def _opened(annotation: Any, metadata: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """Split an annotation into its type and its constraints."""
    if get_origin(annotation) is not Annotated:
        return annotation, metadata
    inner, *more = get_args(annotation)
    for item in more:
        metadata += tuple(item.metadata) if isinstance(item, FieldInfo) else (item,)
    return _opened(inner, metadata)


def _choices(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield each type of a union, with its constraints."""
    annotation, metadata = _opened(annotation, metadata)
    if get_origin(annotation) in {Union, types.UnionType}:
        for choice in get_args(annotation):
            yield from _choices(choice, metadata)
    elif annotation is not type(None):
        yield annotation, metadata


def expected(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """Describe a type and its constraints.

    >>> from annotated_types import Gt, Le
    >>> expected(float, [Gt(0), Le(1)]), expected(tuple[str, ...]), expected(Literal["k1", "k3"])
    ('a number above 0 and at most 1', 'a list of strings', 'one of `k1`, `k3`')
    """
    choices = list(dict.fromkeys(_described(*choice) for choice in _choices(annotation, tuple(metadata))))
    return " or ".join(choices) or "null"


def _described(choice: Any, constraints: tuple[Any, ...]) -> str:
    origin, args = get_origin(choice), get_args(choice)
    patterns = [FORMS.get(p, f"a string of the form {p}") for c in constraints if (p := getattr(c, "pattern", None))]
    filled = any(getattr(c, "min_length", None) for c in constraints)
    simple = {
        bool: "true or false",
        int: "an integer" + _bounds(constraints),
        float: "a number" + _bounds(constraints),
        str: patterns[0] if patterns else "a non-empty string" if filled else "a string",
    }
    if choice in simple:
        return simple[choice]
    if origin is Literal:
        return f"`{args[0]}`" if len(args) == 1 else "one of " + ", ".join(f"`{_word(value)}`" for value in args)
    if origin in {tuple, list}:
        length = f"{len(args)} " if origin is tuple and Ellipsis not in args else ""
        return f"a list of {length}{_many(args[0])}"
    return "a mapping" if origin is dict or choice is dict or section_of(choice) else "a value"


def _many(annotation: Any) -> str:
    inner, _ = _opened(annotation, ())
    return {str: "strings", int: "integers", float: "numbers"}.get(inner, "values")


def _word(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


def _bounds(constraints: Iterable[Any]) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    limits = {sign: getattr(c, sign) for c in constraints for sign in words if getattr(c, sign, None) is not None}
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    bounds = [f"{words[sign]} {value}" for sign, value in limits.items()]
    of = " of " if bounds and bounds[0].startswith("at least") else " "
    return of + " and ".join(bounds) if bounds else ""


def format_value(value: object) -> str:
    """Format a value of the file, shortened.

    >>> format_value("1e-5"), format_value(True), format_value([1]), format_value({}), format_value(None)
    ('the string "1e-5"', 'true', 'a list of 1 item', 'a mapping', 'null')
    """
    if isinstance(value, dict | list):
        items = "item" if len(value) == 1 else "items"
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)} {items}"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"
    return f"the string {text}" if isinstance(value, str) else text


def literals(annotation: Any) -> list[str]:
    """List the strings that a parameter accepts."""
    return [
        value
        for choice, _ in _choices(annotation)
        if get_origin(choice) is Literal
        for value in get_args(choice)
        if isinstance(value, str)
    ]


def about(cls: type[BaseModel], key: str) -> str:
    """Describe a parameter: its type and its meaning."""
    info, takes = field_of(cls, key), field_type(cls, (key,))
    assert info is not None
    assert takes is not None
    text = "the name of a signal" if is_signal(info) else takes.describe()
    return f"{text}. {takes.doc}"

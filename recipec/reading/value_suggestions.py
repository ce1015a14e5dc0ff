"""Advice on a bad value: what it was probably meant to be, and how that is written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from recipec.component import component_names
from recipec.diagnostics.phrases import folded, nearest, question
from recipec.language.scalars import read_scalar
from recipec.reading import field_descriptions
from recipec.reading.component_suggestions import joined
from recipec.reading.foreign.values import foreign_value, fragment, not_offered
from recipec.reading.lists import for_bare_section, for_several

_REFERENCE = re.compile(r"\$?(?:\{\{?|\()?\s*(vars\.\w+)\s*(?:\}?\}|\))?|(?:\{\{\s*|\$)([A-Za-z_]\w*)(?:\s*\}\})?")
"""A reference to a variable as other languages write it."""
_UNIT = re.compile(r"(\d+(?:\.\d+)?(?:e-?\d\d?(?=[A-Za-z]))?) ?([A-Za-z]*)")
"""A number with a unit, or with `k` for thousands."""
_TIME = re.compile(r"\d+(?:\.\d+)? ?(s|secs?|seconds?|m|min|mins|minutes?|h|hrs?|hours?)")
"""A number with a unit of time."""
_TIMES = {"s": "seconds", "m": "minutes", "h": "hours"}
_SIGNS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-", "\u2014": "-"})
"""Characters that look like a minus."""
_AT = re.compile(r"(pass|avg|mean|average)_?(?:at|@)_?(\d+)")
"""A metric of several answers, as other tools write it."""
_SHARE = re.compile(r"^a number .*\b(at most|below|to) 1\b(?!\.)")
"""What takes numbers up to 1."""
_COMPUTED = re.compile(r"(\d+(?:\.\d+)?(?:e-?\d\d?)?)(?: *([+*/]) *| (-) )(\d+(?:\.\d+)?(?:e-?\d\d?)?)")
"""A number that is to be computed of two."""
_NOTHING = {"none", "null", "off", "no", "false", "disabled", "never"}
"""Words for no value."""
_YES_NO = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


def for_value(
    key: str, value: Any, annotation: Any, metadata: Iterable[Any] = (), path: str = "", keys: Iterable[str] = ()
) -> tuple[str, str]:
    """Advise on a bad value at ``path``; returns the advice, and the text to replace it with or an empty text.

    ``keys`` are those of the section around it.

    >>> for_value("learning_rate", "1e-5", float)
    ('without quotes it is a number: `learning_rate: 1e-5`', '1e-5')
    """
    takes = field_descriptions.expected(annotation, metadata)
    if isinstance(value, list) and value and takes == "a mapping" and all(isinstance(one, Mapping) for one in value):
        return f"write the keys of `{key}` without dashes", ""
    other_form = _in_another_form(key, value, takes, field_descriptions.literals(annotation))
    if form := _two_bounds(key, value, path, keys) or (other_form if other_form[0] else None):
        return form
    section = field_descriptions.section_of(annotation) if takes == "a mapping" else None
    if (
        section is not None
        or (isinstance(value, list) and takes.startswith(("a number", "an integer", "one of")))
        or (isinstance(value, list) and (key == "path" or (len(value) == 1 and not takes.startswith("a list"))))
    ):
        keys = field_descriptions.keys_of(section) if section is not None else ()
        if isinstance(value, str) and not_offered(value, key):
            return not_offered(value, key), ""
        bare = for_bare_section(key, value, keys, takes_text=_takes_text(section, keys)) if keys else ""
        return bare or for_several(key, value, path or key), ""
    if isinstance(value, str):
        inner = field_descriptions.literals(field_descriptions.inside(annotation, 0))
        plain = _unquoted(key, value, takes) or _plain(key, value, takes)
        return plain or _for_text(key, value, takes, field_descriptions.literals(annotation), inner)
    right = ""
    if isinstance(value, float) and value.is_integer() and "integer" in takes:
        right = str(int(value))
    elif isinstance(value, int) and "true or false" in takes and value in {0, 1}:
        right = "true" if value else "false"
    advice = f"write `{key}: {right}`" if right else ""
    if value is False and takes.startswith(("a number", "an integer")):
        advice = _nothing("false", key)
    elif not right and key == "epochs" and isinstance(value, float):
        advice = "a part of an epoch is counted in `steps`"
    return advice, right


def _two_bounds(key: str, value: Any, path: str, keys: Iterable[str]) -> tuple[str, str] | None:
    """Advise on a range, where its upper bound has a key of its own."""
    bounds = _bounds(value) if f"{key}_high" in keys else []
    if not bounds:
        return None
    runs = for_several(key, value, path) if isinstance(value, list) else ""
    return joined(f"two bounds are two keys: `{key}: {bounds[0]}, {key}_high: {bounds[1]}`", runs), ""


def _bounds(value: Any) -> list[float]:
    """Return the numbers of a range, the lower bound first; none for anything else.

    >>> _bounds({"high": 0.28, "low": 0.2}), _bounds([0.2, 0.28]), _bounds(0.2)
    ([0.2, 0.28], [0.2, 0.28], [])
    """
    upper = (
        sorted(value, key=lambda name: bool(re.search("high|max|upper", str(name)))) if isinstance(value, dict) else ()
    )
    items = [value[name] for name in upper] if upper else value if isinstance(value, list) else []
    return items if len(items) == 2 and all(type(item) in {int, float} for item in items) else []


def _takes_text(section: type[BaseModel] | None, keys: Sequence[str]) -> bool:
    """Whether the first key of a section takes any text."""
    info = field_descriptions.field_of(section, keys[0]) if section is not None else None
    return info is not None and field_descriptions.expected(info.annotation, info.metadata).endswith("a string")


def for_reference(key: str, value: str) -> tuple[str, str]:
    """Advise on a reference to a variable in the form of another language.

    >>> for_reference("data", "$vars.qa"), for_reference("data", "qa.jsonl")
    (('a reference is written `data: "${vars.qa}"`', '"${vars.qa}"'), ('', ''))
    """
    reference = _REFERENCE.fullmatch(value.strip())
    if reference is None:
        return "", ""
    written = f'"${{{reference[1] or f"vars.{reference[2]}"}}}"'
    return f"a reference is written `{key}: {written}`", written if reference[1] else ""


def _in_another_form(key: str, value: Any, takes: str, choices: list[str]) -> tuple[str, str]:
    """Advise on a reference, a mapping, or a percentage, where something else is needed."""
    if isinstance(value, str):
        return _of_text(key, value)
    if isinstance(value, Mapping):
        return _alone(key, value, choices)
    if isinstance(value, int | float) and _SHARE.search(takes) and 1 < value <= 100 and float(value).is_integer():
        return f"a share is written `{key}: {value / 100:g}`", f"{value / 100:g}"
    return "", ""


def _of_text(key: str, value: str) -> tuple[str, str]:
    """Advise on a reference, on numbers of devices, and on the name of a chat template where it is switched on."""
    if key == "devices" and re.fullmatch(r"\d+(,\s*\d+)+", value):
        return for_several(key, [int(one) for one in value.split(",")], "machine.devices"), ""
    if key == "chat" and value.lower() not in _YES_NO:
        return "write `chat: true`; which template is `policy: {chat_template: …}` of the stage", ""
    return for_reference(key, value)


def _alone(key: str, value: Mapping[str, Any], choices: list[str]) -> tuple[str, str]:
    """Advise on a mapping where a choice is written alone, or a stage is named.

    >>> _alone("quantization", {"type": "nf4"}, ["nf4", "int8"])
    ('write `quantization: nf4`', 'nf4')
    """
    if key == "from":
        return "write the name of the stage: `from: NAME`", ""
    named = [inner for inner in value.values() if isinstance(inner, str) and inner in choices]
    return (f"write `{key}: {named[0]}`", named[0]) if len(named) == 1 else ("", "")


def _unquoted(key: str, value: str, takes: str) -> tuple[str, str] | None:
    """Advise on a list in quotes.

    >>> _unquoted("stop", "[a, b]", "a list of strings")
    ('without quotes it is a list: `stop: [a, b]`', '[a, b]')
    """
    listed = takes.startswith("a list") and re.fullmatch(r"\[.*\]", value)
    return (f"without quotes it is a list: `{key}: {value}`", value) if listed else None


def _plain(key: str, value: str, takes: str) -> tuple[str, str] | None:
    """Advise on a text that is a value with something around it: a unit, separators, a comma at its end, no brackets.

    >>> _plain("steps", "1_000", "an integer"), _plain("steps", "2k", "an integer")
    (('write `steps: 1000`', '1000'), ('write `steps: 2000`', '2000'))
    """
    if (advice := _with_more(key, value, takes)) is not None:
        return advice
    right = ""
    if "number" in takes and (percent := re.fullmatch(r"([\d.]+) ?%", value)):
        share = f"{float(percent[1]) / 100:g}"
        return f"a share is written `{key}: {share}`", share
    if takes.startswith("an integer") and (time := _TIME.fullmatch(value)):
        return f"`{key}` is a number, not a time in {_TIMES[time[1][0].lower()]}", ""
    if takes.startswith(("a number", "an integer")) and (unit := _UNIT.fullmatch(value.replace("_", ""))):
        right = f"{float(unit[1]) * (1000 if unit[2] in {'k', 'K'} else 1):.15g}"
        right = right if takes.startswith("a number") or "." not in right else ""
    elif value.startswith("(") and not value.endswith(")"):
        return "a list has brackets, `[…]`", ""
    elif takes.startswith("a list of 2 numbers") and (parts := re.findall(r"[\d.]+", value)):
        right = f"[{', '.join(parts)}]"
    elif takes.startswith("1 to 100 letters"):
        right = re.sub(r"[^\w.-]+", "-", value, flags=re.ASCII).strip("-._")[:100]
    elif value.endswith(",") and not takes.startswith("a list"):
        bare = value.rstrip(", ")
        right = bare if "number" not in takes or isinstance(read_scalar(bare)[0], int | float) else ""
    elif "@K" in takes and (several := _AT.fullmatch(value.lower())):
        right = f"{'pass' if several[1] == 'pass' else 'avg'}@{int(several[2]) or 1}"
        return f"write `{right}`", right
    same = right == value  # a number in quotes, which has words of its own
    return (f"write `{key}: {right}`", right) if right and not same else None


def _with_more(key: str, value: str, takes: str) -> tuple[str, str] | None:
    """Advise on a number with a comment, a sign or another number, and on a word for no number."""
    if not takes.startswith(("a number", "an integer")):
        return None
    if value.lower() in _NOTHING:
        return _nothing(value, key), ""
    if result := _computed(value):
        return f"a recipe does not compute: write `{key}: {result}`", result
    plain = value.translate(_SIGNS)
    sign = next((sign for sign in ("#", "//", ";") if sign in value), "")
    cleaned = (plain.partition(sign)[0] if sign else plain).strip()
    if cleaned == value or not isinstance(read_scalar(cleaned or " ")[0], int | float):
        return None
    why = {
        "#": "a comment has a space before `#`",
        "//": "a comment begins with ` #`",
        ";": "a line does not end in `;`",
        "": "the sign is not that of a number",
    }[sign]
    return f"{why}: write `{key}: {cleaned}`", cleaned


def _for_text(key: str, value: str, takes: str, choices: list[str], inner: list[str]) -> tuple[str, str]:
    number, _ = read_scalar(value)
    other, published = foreign_value(value), fragment(value)
    if isinstance(number, int | float) and not isinstance(number, bool) and re.search("number|integer", takes):
        return f"without quotes it is a number: `{key}: {value}`", value
    if "true or false" in takes and value.lower() in _YES_NO:
        right = _YES_NO[value.lower()]
        return f"write `{key}: {right}`", right
    elsewhere = _component_named(value) if choices else ""
    if elsewhere or not_offered(value, key):
        return elsewhere or not_offered(value, key), ""
    similar = nearest(value, choices) or [one for one in choices if folded(value).startswith(f"{one}_")]
    if other in choices or (published and not similar):
        right = other if other in choices else ""
        advice = joined(
            f"what other tools call `{value}` is `{right}` here" if right else "",
            f"the settings published as {value} are `extends: [{published}]`" if published else "",
        )
        return advice, right
    if takes.startswith(("a list of strings", "a list of values")) and not similar:
        item = other if other in inner else next(iter(nearest(value, inner)), "") if value not in inner else value
        words = (
            re.split(r"[,\s]+", value.strip()) if re.fullmatch(r"[\w.-]+([,\s]+[\w.-]+)*,?", value.strip()) else [value]
        )
        several = [json.dumps(part, ensure_ascii=False) for part in words if part]
        right = f"[{item if item in inner else ', '.join(several)}]"
        return f"a single string must be a list, too: `{key}: {right}`", right
    return question(similar, value), similar[0] if similar else ""


def _nothing(value: str, key: str) -> str:
    return f"`{value}` is not a number: leave `{key}` out, or write `{key}: null` for the default, or a number"


def _computed(value: str) -> str:
    """Return the result of an expression of two numbers, or an empty text.

    >>> _computed("512 * 2"), _computed("1/3"), _computed("64-128")
    ('1024', '0.333333333333333', '')
    """
    product = _COMPUTED.fullmatch(value.strip())
    if product is None or (product[2] == "/" and not float(product[4])):
        return ""
    one, other = float(product[1]), float(product[4])
    sign = product[2] or product[3]
    return f"{ {'+': one + other, '-': one - other, '*': one * other}.get(sign, one / (other or 1)):.15g}"


def _component_named(value: str) -> str:
    """Say which slot a component fills, where its name is given as a choice of something else."""
    slot = next((slot for slot in ("loss",) if value in component_names(slot)), "")
    return f"`{value}` is a {slot}: `{slot}: {{type: {value}}}`" if slot else ""

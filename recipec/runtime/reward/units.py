"""The unit of measurement at the end of an answer."""

from __future__ import annotations

import re

_ALIASES = """
mm millimeter millimetre
cm centimeter centimetre
m meter metre
km kilometer kilometre
in inch inches
ft foot feet
yd yard
mi mile
mg milligram
g gram gm
kg kilogram
lb pound
oz ounce
ms millisecond
s sec second
min minute
h hr hour
day
week
month
yr year
ml milliliter millilitre
l liter litre
gal gallon
ha hectare
dollar usd
cent
euro
deg degree
rad radian
percent percentage pct
mph
kmh kph kmph
unit
"""
_NAME = {alias: line.split()[0] for line in _ALIASES.strip().splitlines() for alias in line.split()}
_SPELLED = {"mi/h": "mph", "km/h": "kmh"}
_CURRENCIES = {"$": "dollar", "€": "euro", "£": "gbp", "¥": "yen", "₹": "rupee"}

_COMMAND = r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf)|mbox|operatorname)\s*\{[^{}]*\}"
_POWER = r"(?:\s*\^\s*\{?\s*[123]\s*\}?)?"
_IN_COMMAND = re.compile(rf"{_COMMAND}{_POWER}(?:\s*(?:/|\\cdot)\s*(?:{_COMMAND}|[a-z]+){_POWER})?$")
_BARE = re.compile(rf"(?<![A-Za-z\\])[A-Za-z]+(?:(?:\s+|\s*/\s*)[A-Za-z]+){{0,3}}{_POWER}$")
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?(?:\s*(?:\\(?:text|mathrm)\s*\{\s*)?[CF]\s*\}?)?$")
_PERCENT = re.compile(r"\s*(?:\\?%|(?:\\text\s*\{\s*)?(?:percent|percentage|pct)\s*\}?)$")
_CURRENCY = re.compile(r"(?P<sign>[-+]?)\s*\\?(?P<unit>[$€£¥₹])\s*(?=[\d.\\])")
_PLAIN = r"[\d.,\s{}()\[\]/*^+-]*"
_NUMERIC = re.compile(rf"{_PLAIN}(?:\\(?:[dt]?frac|sqrt|pi|cdot|times|pm)(?![A-Za-z]){_PLAIN})*")
_COUNTED = re.compile(r"(?:of\s+)?[A-Za-z]{3,}(?:\s+[A-Za-z]+)*")
_PART = re.compile(r"(?P<before>square |sq |cubic |cu )?(?P<name>[a-z]+)(?P<after> ?\^ ?[123]| squared| cubed)?")


def split_unit(text: str) -> tuple[str, str | None]:
    r"""Split an answer into what is measured and its unit, None where there is none or none of the usual ones.

    A single letter counts as a unit only inside ``\text`` or after a space, since ``5m`` is five times m.
    What is counted, as in ``5 apples``, is left out.

    >>> split_unit(r"12\text{ cm}^2"), split_unit("5 apples"), split_unit("3m"), split_unit(r"\$2.50")
    (('12', 'cm^2'), ('5', None), ('3m', None), ('2.50', 'dollar'))
    """
    text = text.strip()
    if match := _CURRENCY.match(text):
        return match["sign"] + text[match.end() :], _CURRENCIES[match["unit"]]
    for pattern, unit in ((_PERCENT, "percent"), (_DEGREE, "deg")):
        if (match := pattern.search(text)) and match.start():
            return text[: match.start()], unit
    if (match := _IN_COMMAND.search(text)) and match.start():
        head, phrase = text[: match.start()].rstrip(), match[0]
        known = unit_of(phrase)
        letters = sum(map(str.isalpha, re.sub(r"\\[a-z]+", "", phrase)))
        if known or (letters > 1 and _measured(head)):
            return head, known
    if (match := _BARE.search(text)) and match.start():
        head, phrase = text[: match.start()], match[0]
        apart, head = head.endswith(" "), head.rstrip()
        known = unit_of(phrase)
        if known and head[-1:].isdigit() and len(phrase) > 1:
            return head, known
        if _measured(head) and ((known and apart) or (apart and _COUNTED.fullmatch(phrase))):
            return head, known
    return text, None


def _measured(text: str) -> bool:
    """Whether a text is a number, which a unit may follow."""
    return bool(re.search(r"\d|\\pi", text) and _NUMERIC.fullmatch(text))


def unit_of(text: str) -> str | None:
    r"""Return the usual name of a unit, None where it is unknown.

    >>> unit_of(r"\text{ square centimeters}"), unit_of(r"\mathrm{m}/\mathrm{s}^{2}"), unit_of("apples")
    ('cm^2', 'm/s^2', None)
    """
    plain = re.sub(r"\\[a-z]+\s*\{([^{}]*)\}", r" \1 ", text)
    plain = " ".join(re.sub(r"[{}.\\]", " ", plain).casefold().split())
    parts = []
    for part in re.split(r"\s*/\s*|\s+per\s+", plain):
        match = _PART.fullmatch(part)
        name = match and (_NAME.get(match["name"]) or _NAME.get(re.sub(r"(?<=..)s$", "", match["name"])))
        if not match or not name:
            return None
        power = (match["before"] or match["after"] or "").strip(" ^")
        parts.append(name + {"s": "^2", "c": "^3", "2": "^2", "3": "^3"}.get(power[:1], ""))
    return _SPELLED.get("/".join(parts), "/".join(parts))

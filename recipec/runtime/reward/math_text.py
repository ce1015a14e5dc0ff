r"""Answers read as mathematics, from start to end: used in the children of ``worker_pool`` alone, without torch.

Math-Verify searches prose for expressions.  In a right answer that search would take the 3 of ``3\sqrt{13}`` for the
answer.  Here a text is rewritten to one LaTeX expression and read by the grammar as a whole, or not at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from latex2sympy2_extended import latex2sympy
from latex2sympy2_extended.math_normalization import NormalizationConfig, normalize_latex
from latex2sympy2_extended.sets import FiniteSet
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from sympy import Expr, I, Mul, Product, Rational, Sum, Symbol, UnevaluatedExpr

from recipec.runtime.reward.latex_text import half_width, has_box, to_latex
from recipec.runtime.reward.units import split_unit

SMALL = 1e-3
"""Largest relative difference of equal numbers: Math-Verify rounds to six decimals, so all small ones are equal."""
NOTHING = 1e-100
"""Size up to which a number may be the rest of zero in floating point."""
_PERCENT = UnevaluatedExpr(Rational(1, 100))
_MOST_FACTORS = 3
"""Letters of a word that may also be a product of variables."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text may mean: expressions, or the text itself where the grammar has no word for it; and its unit."""

    values: tuple[Any, ...]
    unit: str | None = None


_SEARCH = [
    LatexExtractionConfig(normalization_config=NormalizationConfig(basic_latex=False, boxed="none")),
    ExprExtractionConfig(),
]
_WRITTEN = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none")

# Between dollar signs a sentence would be read as a product of its letters.
_WORDS = re.compile(r"(?<![\\\w])[A-Za-z]{3,}\s+[A-Za-z]{2,}")
_WORD = re.compile(r"(?:^|\s)[A-Za-z]{2,}(?=[\s.,:;!?]|$)")
_CLOCK = re.compile(
    r"(?P<hour>\d{1,2}):(?P<minute>[0-5]\d)\s*(?:\\text\s*\{\s*)?(?:(?P<half>[ap])\.?\s*m\.?)?\s*\}?", re.IGNORECASE
)
_CHOICE = re.compile(
    r"(?:\\(?:text|math)[a-z]*\s*\{\s*)?\((?P<letter>[A-H])\)\s*(?:\}|\s)\s*(?P<value>[-\d\\A-Za-z].*)"
)
_IDEOGRAPH = "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_BESIDE_IDEOGRAPH = re.compile(rf"(?<={_IDEOGRAPH})(?=[-+\d$\\])|(?<=\d)(?={_IDEOGRAPH})")
"""Where a number begins or ends in a text of a language without spaces; Math-Verify looks for words."""
_INEXACT = re.compile(r"\\[lc]?dots|\.\.\.|…|\d\s*['\"\u2032\u2033]|(?<![\w.\\^{])\d[\dA-Za-z]*\)?\s*_")
_COMMANDS = re.compile(r"\\(?:text|math|mbox|operatorname|begin|end)[a-z]*\s*\{[^{}]*\}")


def read(text: str) -> Reading | None:
    r"""Read a right answer as a whole; None where it is not mathematics.

    >>> read(r"3\sqrt{13}"), read("see the appendix"), read("12 cm")
    (Reading(values=(3*sqrt(13),), unit=None), None, Reading(values=(12,), unit='cm'))
    """
    text = to_latex(text)
    if match := _CLOCK.fullmatch(text):
        time = Symbol(f"{int(match['hour'])}:{match['minute']}{match['half'] or ''}".casefold(), real=True)
        sure = match["half"] or match["minute"] == "00"
        return Reading((time,) if sure else (time, Rational(int(match["hour"]), int(match["minute"]))))
    if match := _CHOICE.fullmatch(text):
        value = read(match["value"])
        return Reading((Symbol(match["letter"].lower(), real=True), *(value.values if value else ())))
    number, unit = split_unit(text)
    if not number or _prose(number):
        return None
    if not re.fullmatch(r"[A-Za-z]{2,}", number):
        value = _parsed(number)
        return None if value is None else Reading((value,), unit)
    factors = _parsed(number) if len(number) <= _MOST_FACTORS and "I" not in number else None
    word = Symbol(number.lower(), real=True)
    return Reading((word,) if factors is None else (word, factors))


def read_answer(text: str) -> Reading | None:
    r"""Read what a model wrote: its last box, else the whole of a short text, else what Math-Verify finds in it.

    >>> read_answer(r"so it is \boxed{10^{10}}"), read_answer("the answer is 5")
    (Reading(values=(10**10,), unit=None), Reading(values=(5,), unit=None))
    """
    text = half_width(text)
    if has_box(text):
        return read(text)
    if _bare(text.strip()) and (whole := read(text)):
        return whole
    text = _BESIDE_IDEOGRAPH.sub(" ", text)
    values = parse(text, _SEARCH, extraction_mode="first_match", parsing_timeout=None, raise_on_error=True)
    if not values:
        return None
    written = values[-1]
    if isinstance(written, str) and not re.fullmatch(r"[-+\d.]*", written):
        return read(written)
    value = values[0]
    if isinstance(value, Mul) and value.args[-1] == _PERCENT:
        return Reading((value.args[0],), "percent")
    return None if isinstance(value, str) else Reading((value,))


def _bare(text: str) -> bool:
    """Whether a text is an answer and nothing else: one word, or a line without words but for a unit, and, or."""
    number = split_unit(text)[0]
    words = _WORD.search(re.sub(r"\b(?:and|or)\b", " ", _COMMANDS.sub(" ", number)))
    return "\n" not in text and (not words or number.isalpha())


def equal(right: Reading, answer: Reading) -> bool:
    """Whether an answer is one of the values of the right one, in the same unit where both name a known one.

    A percentage equals its number and its value, as Math-Verify has it for whole ones.

    >>> equal(read("5%"), read("0.05")), equal(read("12 cm"), read("12")), equal(read("12 cm"), read("12 m"))
    (True, True, False)
    """
    if right.unit and answer.unit and right.unit != answer.unit:
        return False
    values, answered = (one.values + _alternatives(one, other) for one, other in ((right, answer), (answer, right)))
    return any(_same(value, other) for value in values for other in answered)


def _alternatives(one: Reading, other: Reading) -> tuple[Any, ...]:
    """Return what a quantity also is for a text without its unit: 5% is 0.05, and 5 m the product of 5 and m."""
    unit = one.unit or ""
    if unit == other.unit or (unit != "percent" and len(unit) != 1):
        return ()
    factor = Rational(1, 100) if unit == "percent" else Symbol(unit, real=True)
    return tuple(value * factor for value in one.values if isinstance(value, Expr))


def _same(value: Any, other: Any) -> bool:
    if isinstance(value, str) or isinstance(other, str):
        return bool(value == other)
    numbers = [side.evalf() for side in (value, other) if isinstance(side, Expr) and side.is_comparable]
    if len(numbers) == 2 and all(n.is_finite for n in numbers):
        largest = max(map(abs, numbers))
        if largest > NOTHING and abs(numbers[0] - numbers[1]) > SMALL * largest:
            return False
    return bool(verify(value, other, timeout_seconds=None, raise_on_error=True, allow_set_relation_comp=True))


def _prose(text: str) -> bool:
    """Whether words stand outside of text commands: two of them, or a long one next to something else."""
    bare = _COMMANDS.sub(" ", text)
    longest = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{4,}", bare)
    return bool(_WORDS.search(bare)) or any(w != text and w != "".join(sorted(w)) for w in longest)


def _parsed(text: str) -> Any:
    """Return the expression that a text spells, the text itself where the grammar lacks a command, or None."""
    written = normalize_latex(text, _WRITTEN)
    if re.search(r"\d\s+\d", written):
        return None
    try:
        value = None if _INEXACT.search(text) else _expression(written)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - the grammar raises whatever it likes
        value = None
    if value is None:
        return "".join(written.split()) if "\\" in written and _balanced(written) else None
    imaginary = Symbol("i", real=True)
    return value.xreplace({imaginary: I}) if value.has(imaginary) and not value.has(Sum, Product) else value


def _expression(written: str) -> Any:
    r"""Read LaTeX; where only `\pm` and `\mp` keep the grammar from it, read it with each sign."""
    try:
        return latex2sympy(written, is_real=True, convert_degrees=False, normalization_config=None)
    except Exception:
        if r"\pm" not in written:
            raise
    signs = (("+", "-"), ("-", "+"))
    texts = [written.replace(r"\pm", one).replace(r"\mp", other) for one, other in signs]
    return FiniteSet(*map(_expression, texts))


def _balanced(text: str) -> bool:
    depth = 0
    for letter in re.sub(r"\\[{}]", "", text):
        depth += (letter == "{") - (letter == "}")
        if depth < 0:
            return False
    return depth == 0

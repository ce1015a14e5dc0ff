r"""Answers as people write them, rewritten to one LaTeX expression that a grammar reads from start to end."""

# ruff: noqa: RUF001 - signs that people write instead of LaTeX commands

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

from recipec.runtime.reward.units import unit_of

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])")
_IN_TEXT = re.compile(r"\\(?:text|mbox)[a-z]*\s*\{\s*([-+\d.][^{}]*|[A-Z](?:\s*,\s*[A-Z])+\s*)\}")
_FORMULA = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(.+?)(?<!\\)\$", re.DOTALL)
_JOINT = re.compile(r"\s*[,;]?\s*(?:and|or)?\s*")
_SET_OF = re.compile(r"\\\{\s*([A-Za-z])\s*(?:\||:|\\mid|\\vert)\s*(.*[<>=].*|.*\\(?:l|g|n)eq?\b.*)\\\}")
_FUNCTIONS = r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)"
_ANGLES = re.compile(rf"\\{_FUNCTIONS}(?![A-Za-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\{?\s*\\circ\s*\}?")
_SYMBOLS = str.maketrans(
    {
        "−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "∞": r"\infty ",
        "π": r"\pi ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
        "∅": r"\emptyset ", "±": r"\pm ", "°": r"^\circ ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}",
        "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\n": " ", "\t": " ", "\r": " ",
    }
)  # fmt: skip
_HALF = {0xFF01 + i: 0x21 + i for i in range(94)} | {ord("。"): ".", ord("、"): ",", ord("："): ": "}
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_BASES |= {"twelve": 12, "sixteen": 16}


def _based(match: re.Match[str]) -> str:
    """Return a number of another base in base ten; leave anything else."""
    named = match["base"] or match["digit"]
    base = _BASES.get(named) or int(named)
    try:
        return str(int(match["inner"] or match["number"], base))
    except ValueError:
        return match[0]


def _repeating(match: re.Match[str]) -> str:
    """Return a repeating decimal as a fraction."""
    period = match["period"] or match["digit"]
    fixed = match["whole"] + match["fixed"]
    return rf"\frac{{{int(fixed + period) - int(fixed)}}}{{{'9' * len(period)}{'0' * len(match['fixed'])}}}"


def _mixed(match: re.Match[str]) -> str:
    whole, above, below = (part for part in match.groups() if part)
    return rf"({whole}+\frac{{{above}}}{{{below}}})"


_SCALE = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_BASE = (
    r"(?:\{\s*(?:\\text\s*\{)?\s*(?:base)?[\s}]*"
    rf"(?P<base>\d{{1,2}}|{'|'.join(_BASES)})\s*\}}?\s*\}}|(?P<digit>\d))"
)
_BASED = rf"(?<![\w.,\\^])(?:(?P<number>\d[\dA-Za-z]*)|(?:\(|\\text\s*\{{)(?P<inner>\d[\dA-Za-z]*)[)}}])\s*_\s*{_BASE}"
_REPEATING = r"(?P<whole>\d+)\.(?P<fixed>\d*)\\(?:overline|bar|dot)\s*(?:\{(?P<period>\d+)\}|(?P<digit>\d))(?!\d)"
_REWRITES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    # thousands, then spaces
    (r"(?<=\d)(?:\\[,! ]|\{,\}|,\\!)(?=\d{3}(?!\d))", ","),
    (r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d,])", lambda m: m[0].replace(" ", "")),
    (r"(?<!\\)\\[,;:! ]|\\q?quad(?![A-Za-z])|(?<!\\)~|\\displaystyle", " "),
    # one spelling of each thing
    (r"\\(le|ge|ne)q(?:slant)?(?![A-Za-z])", r"\\\1 "),
    (r"^\s*(?:\\approx|\\simeq)(?![A-Za-z])", ""),
    (r"^\s*<(?!=)", r"\\lt "),
    (r"^\s*>(?!=)", r"\\gt "),
    (r"\\varnothing", r"\\emptyset "),
    (r"\\langle", "("),
    (r"\\rangle", ")"),
    (r"\\pmod", r"\\mod "),
    (r"\\text\s*\{\s*:\s*\}", ":"),
    (r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:\\text\s*\{\s*)?(?:st|nd|rd|th)\s*\}?\s*\}?(?![A-Za-z])", ""),
    (r"√\s*\(([^()]*)\)|√\s*(\d+|[A-Za-z])", lambda m: rf"\sqrt{{{m[1] or m[2]}}}"),
    (r"\\sqrt\s+(\w)", r"\\sqrt{\1}"),
    (r"\\?(?<![A-Za-z])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"(\\[A-Za-z]+)\{\}", r"\1 "),
    (rf"\\(?:cdot|times)\s*(?=\\{_FUNCTIONS})", " "),  # would be an argument of the function before it
    (r"\*\*", "^"),
    (r"<=", r"\\le "),
    (r">=", r"\\ge "),
    (r"(?<=\s)!=", r"\\ne "),
    (rf"(?<![\\A-Za-z])(pi|log|ln|exp|{_FUNCTIONS}h?|theta|alpha|beta|infty)(?![A-Za-z])", r"\\\1"),
    # numbers
    (_BASED, _based),
    (r"(?<=\d)\s*[xX]\s*(?=10\s*\^)", r"\\times "),
    (r"(?<=\d)[eE]([+-]?\d+)(?![\d.])", lambda m: rf"\cdot 10^{{{int(m[1])}}}"),
    (rf"(?<=\d)\s+({'|'.join(_SCALE)})\b", lambda m: rf"\cdot 10^{{{_SCALE[m[1]]}}}"),
    (_REPEATING, _repeating),
    # a mixed number times something would be a product, and 1 3/4 is read as (1 + 3)/4
    (r"(?<![\w.^_,{\\])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])", _mixed),
    (r"(?<![\w.^_,])(\d+)\s*\\[dtc]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))", _mixed),
)
_COMPILED = tuple((re.compile(pattern), new) for pattern, new in _REWRITES)


def half_width(text: str) -> str:
    r"""Write the digits and signs of Chinese and Japanese texts as those of ASCII.

    >>> half_width("\uff11\uff12\uff05")
    '12%'
    """
    return text.translate(_HALF)


def to_latex(text: str) -> str:
    r"""Rewrite an answer to LaTeX without delimiters; empty where formulas are part of longer prose.

    A text that holds ``\boxed{…}``, or ends with ``#### …``, is a solution: what is marked there is its answer.

    >>> to_latex("so $x=5$ or $x=-2$."), to_latex("#### 1\\,000"), to_latex("1 3/4")
    ('x=5, x=-2', '1,000', '(1+\\frac{3}{4})')
    """
    text = half_width(text)
    if has_box(text):
        text = _boxed(text)
    text = _undelimited(text.rpartition("####")[2].strip(" \t\n*")).translate(_SYMBOLS).strip()
    text = re.sub(r"(?<!\\right)\.$", "", text)
    for pattern, new in _COMPILED:
        text = pattern.sub(new, text)
    return _plain(text.strip())


def has_box(text: str) -> bool:
    """Whether a text marks its answer by a box."""
    return bool(_BOX.search(text))


def _boxed(text: str) -> str:
    r"""Return the content of the last box, as MATH grades it; ``\{`` and ``\}`` open and close nothing.

    A last box that is not closed has no content: the answer in it may go on. Without braces it goes to the end of its
    formula.

    >>> _boxed(r"\boxed{3}, no: \boxed{\{5\}}."), _boxed(r"$\boxed 7$."), _boxed(r"\boxed{3} or \boxed{5")
    ('\\{5\\}', ' 7', '')
    """
    hidden = text.replace(r"\{", "\x01").replace(r"\}", "\x02")
    rest = _BOX.split(hidden)[-1]
    content = _braced(rest.lstrip()[1:]) if rest.lstrip().startswith("{") else rest.partition("$")[0]
    return content.replace("\x01", r"\{").replace("\x02", r"\}")


def _braced(text: str) -> str:
    """Return the text up to the brace that closes the one before it; empty where there is none."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return text[:place]
    return ""


def _undelimited(text: str) -> str:
    """Return the formulas between dollar signs and brackets; the text where it has none, or nothing in prose."""
    formulas = list(_FORMULA.finditer(text))
    if not formulas:
        return text
    around = text[: formulas[0].start()], text[formulas[-1].end() :]
    between = [text[one.end() : other.start()] for one, other in pairwise(formulas)]
    if re.search(r"[\d\\$]", "".join(around)) or not all(map(_JOINT.fullmatch, between)):
        return ""
    unit = f"\\text{{{around[1]}}}" if unit_of(around[1]) else ""
    return ", ".join(next(filter(None, formula.groups())) for formula in formulas) + unit


def _plain(text: str) -> str:
    """Rewrite what only a whole text can be: a quantity inside a text command, a set by its condition, an angle."""
    if match := _IN_TEXT.fullmatch(text):
        text = match[1].strip()
    if match := _SET_OF.fullmatch(text):
        text = match[2].strip()
    if r"\begin{" in text:  # the end of a line is not part of the command after it
        text = text.replace(r"\\", r"\\ ")
    return _DEGREES.sub(r"(\1\\pi/180)", text) if _ANGLES.search(text) else text

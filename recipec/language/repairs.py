"""Edits that let a text be read past a mistake of its syntax: one message says it, and the rest is checked."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recipec.diagnostics.errors import text as errors
from recipec.diagnostics.errors.syntax import syntax_error
from recipec.diagnostics.model import Diagnostic, Fix, Span
from recipec.language.text_positions import Text

CLOSING = {"{": "}", "[": "]"}
OPENING_QUOTES, CLOSING_QUOTES = "\u201c\u201e\u00ab\u2018", "\u201d\u201c\u00bb\u2019"

_KEY = r"(\s*(?:- )?(\w[\w-]*))"
BEFORE_BRACKET = re.compile(_KEY + r" +[\[{\"'|>].*")
_WITH_EQUALS = re.compile(_KEY + r" *([=\uff1a]) *[^\s=].*")
_CLOSE = re.compile(_KEY + r":[^\s:/].*")
_WORDS = re.compile(_KEY + r" +[^:#\s][^:#]*")
_ENTRIES = re.compile(
    r"\s*(?:- )?(?P<key>[\w-]+): +"
    r"(?P<inner>\((?P<bare>[\w-]+: [^()]*)\)|(?P<entry>[a-z_]\w*: +(?:[{\[].*[}\]]|[^\s{\[:\"',]+)))"
)
"""A key, and in its line an entry of its mapping, or entries in parentheses."""
_OF_TEXT = {"name", "from", "path", "template"}
"""Keys of texts, which have no entries."""
_ALONE = re.compile(_KEY + r"\s*")
_BLOCK_KEY = re.compile(r"\s*(?:- )?[\w-]+:(?:\s|$)")
_TWO_ENTRIES = re.compile(
    r"(?:[\s{,](?P<value>-?\d[\d.e-]*|true|false|null)|[^\s;\uff0c\u3001])"
    r"(?P<gap>\s*+(?P<sign>[;\uff0c\u3001]?)\s*+)(?<=[\s;\uff0c\u3001])(?P<key>[a-z]\w*)\Z"
)
"""A value and, after something that is not a comma, the key of another entry."""
_LONGEST = 60
"""Characters of a line that a remedy repeats."""


@dataclass(frozen=True, slots=True)
class Repair:
    """What is wrong, if nothing else reports it, and the text that is read in its place."""

    found: Diagnostic | None
    text: Text


@dataclass(frozen=True, slots=True)
class _Stop:
    """Where and why the YAML library stopped."""

    text: Text
    says: str
    index: int
    start: int
    """Where what it was reading began."""

    @property
    def character(self) -> str:
        """The character at which it stopped; empty at the end."""
        return self.text.text[self.index : self.index + 1]

    def line(self, index: int) -> tuple[int, str]:
        """Return the index at which the line of a character begins, and the line."""
        begin = self.text.text.rfind("\n", 0, index) + 1
        return begin, self.text.text[begin:].partition("\n")[0]

    def line_before(self, index: int) -> int:
        """Return the index after the last character of the last line with an entry before that of ``index``."""
        begin, _ = self.line(index)
        return _last_entry(self.text.text[:begin])


def repair(text: Text, error: Exception, spare: str) -> Repair | None:
    """Say what stopped the YAML library and mend it, where the mistake is plain; None where it is not.

    ``spare`` are two characters that the text does not have, for braces that are letters.
    """
    mark, context = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    if mark is None:
        return None
    says = f"{getattr(error, 'context', '')} {getattr(error, 'problem', '')}"
    stop = _Stop(text, says, mark.index, context.index if context else mark.index)
    return (
        _unquoted_reference(stop, spare)
        or _after_closing(stop)
        or _without_braces(stop)
        or _missing_colon(stop)
        or _not_closed(stop)
        or _missing_comma(stop)
        or None
    )


def missing_colon(line: str) -> tuple[int, str, str] | None:
    """Return where a line that was meant as `key: value` lacks the colon, what is wrong, and the right text.

    >>> missing_colon("loss {beta: 0.1}"), missing_colon("kind: rl")
    ((4, 'a colon is missing after `loss`', 'loss: {beta: 0.1}'), None)
    >>> missing_colon("lr = 1e-5")
    (2, '`=` is in the place of a colon', 'lr: 1e-5')
    """
    for pattern, wrong in (
        (_WITH_EQUALS, "`{sign}` is in the place of a colon"),
        (BEFORE_BRACKET, "a colon is missing after `{key}`"),
        (_CLOSE, "a space is missing after `{key}:`"),
        (_WORDS, "a colon is missing after `{key}`"),
    ):
        if (match := pattern.fullmatch(line.rstrip())) is not None:
            rest = line[match.end(1) :].lstrip(" =:\uff1a" if pattern is not _WORDS else " ").rstrip()
            sign = match[3] if pattern is _WITH_EQUALS else ""
            return match.end(1), wrong.format(key=match[2], sign=sign), f"{match[2]}: {rest}"
    return None


def _mended(place: Span, opened: Span | None, wrong: str, remedy: str, fix: Fix, chain: tuple[Span, ...]) -> Diagnostic:
    return syntax_error(place, opened, wrong, remedy, chain, fix, mended=True)


def _unquoted_reference(stop: _Stop, spare: str) -> Repair | None:
    """Mend `{a: ${b}}`: it is read as if it had its quotes."""
    text, index = stop.text.text, stop.index
    if text[index - 1 : index + 1] != "${" or len(spare) < len("{}"):
        return None
    start, end = index - 1, _end_of_reference(text, index)
    if not end:
        return None
    patched = text[: start + 1] + spare[0] + text[start + 2 : end - 1] + spare[1] + text[end:]
    repair = None
    if text[start - 1] not in OPENING_QUOTES or text[end : end + 1] not in CLOSING_QUOTES:  # they have a message
        repair = _refuse_unquoted(stop.text, start, end)
    return Repair(repair, stop.text.instead(patched))


def _end_of_reference(text: str, index: int) -> int:
    depth = 0
    for at in range(index, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return at + 1
        if text[at] == "\n":
            break
    return 0


def _refuse_unquoted(text: Text, start: int, end: int) -> Diagnostic:
    """Refuse the reference between two places of a text, with the edit that puts it in quotes."""
    written = text.text[start:end]
    place = text.between(start, end)
    before, after = text.text[:start].rstrip(" ")[-1:], text.text[end:].lstrip(" ")[:1]
    is_value = before in set(":,[{") and after in set(",]}\n")
    fix = Fix("put it in quotes", place, f'"{written}"') if is_value else None
    return errors.unquoted_reference(place, written, fix, text.chain)


def _after_closing(stop: _Stop) -> Repair | None:
    """Mend what follows a closing brace, bracket or quote: one too many, a separator, a comment of JSON."""
    begin, line = stop.line(stop.index)
    before = line[: stop.index - begin].rstrip()[-1:]
    if ("expected key" not in stop.says and "<block end>" not in stop.says) or not before or before not in "'\"}]":
        return None
    text, index, here = stop.text, stop.index, stop.character
    place = text.between(index, index + 1)
    if here and here in "}],;":
        wrong = f"this `{here}` closes nothing" if here in "}]" else f"a line does not end in `{here}`"
        fix = Fix("remove it", place, "")
        return Repair(_mended(place, None, wrong, "remove it", fix, text.chain), text.replaced(index, " "))
    if text.text.startswith(" //", index - 1):
        written = line[index - begin :].lstrip("/ ")
        fix = Fix("write `#`", text.between(index, index + 2), "#")
        mistake = _mended(place, None, "a comment begins with `#`", f"write `# {written}`", fix, text.chain)
        return Repair(mistake, text.replaced(index, "#"))
    return None


def _without_braces(stop: _Stop) -> Repair | None:
    """Mend `reward: right: {type: exact_match}` and `loss: (beta: 0)`: entries after a key need braces."""
    if "mapping values are not allowed" not in stop.says:
        return None
    begin, line = stop.line(stop.index)
    match = _ENTRIES.fullmatch(_without_comment(line).rstrip())
    if match is None:
        return None
    inner, key = match["bare"] or match["entry"], match["key"]
    first, last = begin + match.start("inner"), begin + match.end("inner")
    text, right, does = stop.text, f"{{{inner}}}", "write the braces"
    place = text.between(first, last)
    wrong = f"`{inner.partition(':')[0]}` is an entry of `{key}`, and entries in one line have braces"
    if key in _OF_TEXT:
        right, does = f'"{match["inner"]}"', "put it in quotes"
        wrong = f"`{key}` is a text, and one with a colon and a space has quotes"
    shown = f"{key}: {right}"
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"
    found = _mended(place, None, wrong, f"write `{shown}`", Fix(does, place, right), text.chain)
    return Repair(found, text.instead(text.text[:first] + right + text.text[last:]))


def _missing_colon(stop: _Stop) -> Repair | None:
    """Mend a line without its colon, or with `=` in its place; a key alone before lines that belong to it."""
    if "could not find expected ':'" in stop.says:
        ends = [stop.start]
    elif "mapping values are not allowed" in stop.says:
        ends = [stop.index, stop.line_before(stop.index)]
    elif "expected key" in stop.says or "<block end>" in stop.says:
        ends = [stop.line_before(stop.index)]
    else:
        return None
    for index in ends:
        begin, whole = stop.line(index)
        line = _without_comment(whole)
        found = missing_colon(line)
        if index == stop.index and found is not None and not BEFORE_BRACKET.fullmatch(line):
            continue  # the line has the colon at which the library stopped
        if found is None and (alone := _ALONE.fullmatch(line)) is not None and _has_lines(stop, begin, whole, line):
            found = (alone.end(1), f"a colon is missing after `{alone[2]}`", f"{alone[2]}:")
        if found is not None:
            return _with_colon(stop.text, begin, line, found)
    return None


def _has_lines(stop: _Stop, begin: int, whole: str, line: str) -> bool:
    """Whether the next line that is not blank stands further to the right."""
    rest = stop.text.text[begin + len(whole) :].lstrip("\n").partition("\n")[0]
    return len(rest) - len(rest.lstrip(" ")) > len(line) - len(line.lstrip(" "))


def _with_colon(text: Text, begin: int, line: str, colon: tuple[int, str, str]) -> Repair:
    at, wrong, right = colon
    index, key = begin + at, re.match(_KEY, line)
    assert key is not None
    place = text.between(begin + key.start(2), index)
    shown = right if len(right) <= _LONGEST else f"{right[:_LONGEST]}…"
    fix = Fix("write the colon", text.between(begin + key.start(2), begin + len(line.rstrip())), right)
    refused = _mended(place, None, wrong, f"write `{shown}`", fix, text.chain)
    if line[at:].lstrip()[:1] in {"=", "\uff1a"}:
        sign = begin + at + len(line[at:]) - len(line[at:].lstrip())
        text = text.replaced(sign, ":")
        return Repair(refused, text if text.text[sign + 1] == " " else text.added_at(sign + 1, " "))
    if line[at : at + 1] == ":":
        return Repair(refused, text.added_at(index + 1, " "))
    return Repair(refused, text.added_at(index, ":"))


def _missing_comma(stop: _Stop) -> Repair | None:
    """Mend two entries in braces with a space, a line break, `;` or a comma of another script between them."""
    text = stop.text
    if "expected ',' or" not in stop.says or stop.character != ":" or hidden_by_comment(text.text, stop.start):
        return None
    match = _TWO_ENTRIES.search(text.text, stop.start, stop.index)
    opens = text.text[stop.index + 1 :].lstrip(" ")[:1] in CLOSING  # no text goes on with a brace after a colon
    if match is None or not (match["value"] or match["sign"] or "_" in match["key"] or "\n" in match["gap"] or opens):
        return None
    sign, key = match["sign"], match["key"]
    at = match.start("sign") if sign else match.start("gap")
    place = text.between(at, at + len(sign))
    wrong = f"`{sign}` is in the place of a comma" if sign else f"a comma is missing before `{key}`"
    refused = _mended(place, None, wrong, f"write `, {key}: …`", Fix("write the comma", place, ","), text.chain)
    return Repair(refused, text.replaced(at, ",") if sign else text.added_at(at, ","))


def _not_closed(stop: _Stop) -> Repair | None:
    """Mend a `{` or `[` that the next key, another closing sign, or the end of the file shows to be open."""
    if "expected ',' or" not in stop.says:
        return None
    text, opened = stop.text, stop.text.text[stop.start : stop.start + 1]
    begin, line = stop.line(stop.index)
    first, opener = stop.line(stop.start)
    closing = CLOSING.get(opened, "")
    if not closing:
        return None
    if begin == first:
        if stop.character not in CLOSING.values() or not stop.character:
            return None
        at = stop.index
    else:
        if (
            hidden_by_comment(text.text, stop.start)
            or open_quotes(text.text, stop.start, stop.index)
            or not (
                (_BLOCK_KEY.match(line) and _indent(line) <= _indent(opener)) or not text.text[stop.index :].strip()
            )
        ):
            return None
        at = _end_of_line(text.text, stop.line_before(stop.index) if line.strip() else _last_entry(text.text))
    number, line_end = text.between(at, at).line, text.text[at : at + 1] in {"", "\n", " "}
    where = f"at the end of line {number}" if line_end else f"before `{stop.character}`"
    place, opening = text.between(at, at), text.between(stop.start, stop.start + 1)
    fix = Fix(f"write `{closing}`", place, closing)
    mistake = _mended(place, opening, f"a `{opened}` is not closed", f"write `{closing}` {where}", fix, text.chain)
    return Repair(mistake, text.added_at(at, closing))


def hidden_by_comment(text: str, start: int) -> int:
    """Return the index of a `#` that hides the rest of the braces or brackets opened at ``start``; 0 if none does."""
    line = text[start:].partition("\n")[0]
    comment = re.search(r"\S(\s+)#", line)
    if comment is None or comment[0][0] in ",{[" or not re.search(r"[\]},]", line[comment.end() :]):
        return 0
    return start + comment.end(1)


def open_quotes(text: str, start: int, end: int) -> int | None:
    """Return where quotes begin that reach over lines, if they are the last before ``end``."""
    opened: int | None = None
    last = None
    for index in range(start, end):
        here = text[index]
        if opened is None and here in "\"'" and text[index - 1 : index] in {" ", "[", "{", ",", "("}:
            opened = index
        elif opened is not None and here == text[opened] and text[index - 1] != "\\":
            last = opened if "\n" in text[opened:index] else None
            opened = None
    return last


def _last_entry(text: str) -> int:
    """Return the index after the last line that is neither blank nor a comment."""
    lines = text.split("\n")
    while lines and re.fullmatch(r"\s*(#.*)?", lines[-1]):
        lines.pop()
    return len("\n".join(lines).rstrip())


def _without_comment(line: str) -> str:
    """Return a line without its comment, and what is between them; in linear time, however long the gap is."""
    return re.sub(r"(?<!\s)\s+#.*", "", line)


def _end_of_line(text: str, end: int) -> int:
    """Return the index after the last character of a line before its comment; ``end`` is after the last of the line."""
    begin = text.rfind("\n", 0, end) + 1
    return begin + len(_without_comment(text[begin:end]).rstrip())


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def meant_without_quotes(value: str) -> str | None:
    """Return what a plain text holds between typographic quotes; None if it has none around it.

    >>> meant_without_quotes("\u201c1e-5\u201d"), meant_without_quotes("1e-5")
    ('1e-5', None)
    """
    if len(value) > 1 and value[0] in OPENING_QUOTES and value[-1] in CLOSING_QUOTES:
        return value[1:-1]
    return None

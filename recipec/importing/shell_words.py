"""Words of a shell script with their lines, where variables are resolved as far as the script itself assigns them.

Nothing is run: of a command substitution, of a file that is sourced and of an unknown variable only the text is kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from recipec.importing.shell_expansions import changed, item

Variables = Mapping[str, "list[Word]"]
_NAME = re.compile(r"[A-Za-z_]\w*")
_OPERATORS = ("&&", "||", ";;", "<<<", "<<-", "<<", "|", "&", ";", "(", ")")
REDIRECTION = re.compile(r"(?:\d+|&)?(?:>>|>\||>&|>|<&|<(?!<))")
"""Before the name of a file, which is not an argument: ``2>``, ``&>>``, ``<``."""
_PLACEHOLDER = re.compile(r"<[A-Za-z][\w ./-]*>(?=[\s\"']|$)")
"""What the reader of a script shall fill in, ``<PATH_TO_MODEL>``: a shell would read a redirection."""
_ARITHMETIC = re.compile(r"[\s\d+*/()%-]+")
MOST_DOCUMENTS = 50
"""Documents (``<<EOF``) of a script that are read."""
MOST_NESTED = 16
"""References in the default of a variable."""
MOST_DIGITS = 12
"""Digits of a number that is computed with."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a script: ``Word("trainer.nnodes=1", 12)``; of a variable, its text without quotes."""

    text: str
    line: int
    unresolved: tuple[str, ...] = ()
    """What of it only a shell would know."""
    operator: bool = False


@dataclass(slots=True)
class Lexer:
    r"""Splits a text into words and operators; a line break is the operator ``\\n``."""

    text: str
    line: int = 1
    at: int = 0
    found: list[Word] = field(default_factory=list)
    documents: int = 0

    def words(self) -> list[Word]:
        """Return every word as it is written, quotes included, and every operator."""
        while self.at < len(self.text):
            self._next()
        return self.found

    def _next(self) -> None:
        text, at = self.text, self.at
        letter = text[at]
        if letter == "\n":
            self.found.append(Word("\n", self.line, operator=True))
            self.move(1)
        elif letter in " \t\r":
            self.move(1)
        elif text.startswith("\\\n", at):
            self.move(2)
        elif letter == "#":
            end = text.find("\n", at)
            self.move((end if end >= 0 else len(text)) - at)
        elif placeholder := _PLACEHOLDER.match(text, at):
            self.found.append(Word(placeholder[0], self.line))
            self.move(len(placeholder[0]))
        elif redirection := REDIRECTION.match(text, at):
            self.move(len(redirection[0]))
            self.found.append(Word(redirection[0], self.line, operator=True))
        elif operator := next((op for op in _OPERATORS if text.startswith(op, at)), ""):
            self._operator(operator)
        else:
            self._word()

    def _operator(self, operator: str) -> None:
        start = self.line
        self.move(len(operator))
        self.documents += operator in {"<<", "<<-"}
        if operator not in {"<<", "<<-"} or self.documents > MOST_DOCUMENTS:
            self.found.append(Word(operator, start, operator=True))
            return
        marker = re.match(r"\s*(['\"]?)([\w.-]+)\1", self.text[self.at :])
        if marker is None:
            return
        self.move(marker.end())
        rest = self.text.find("\n", self.at)
        if rest < 0:
            return
        body = re.compile(rf"^\s*{re.escape(marker[2])}\s*$", re.MULTILINE)
        end = body.search(self.text, rest + 1)
        first = self.line + self.text.count("\n", self.at, rest + 1)
        inside = self.text[rest + 1 : end.start() if end else len(self.text)]
        self.found.append(Word("<<", start, operator=True))
        self.found.append(Word(inside, first))
        before, self.text = self.text[: rest + 1], self.text
        after = self.text[end.end() :] if end else ""
        blank = "\n" * self.text.count("\n", rest + 1, end.end() if end else len(self.text))
        self.text = before + blank + after

    def _word(self) -> None:
        start, line = self.at, self.line
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter in " \t\r\n" or (letter in "|&;<>()" and not self._array_of(start)):
                break
            if letter == "(":
                self.until(")", "(")
            elif letter == "'":
                self.until("'")
            elif letter == '"':
                self._double()
            elif self.text.startswith(("$((", "$("), self.at):
                self.move(1)
                self.until(")", "(")
            elif self.text.startswith("${", self.at):
                self.move(1)
                self.until("}", "{")
            elif letter == "`":
                self.until("`")
            else:
                self.move(2 if letter == "\\" else 1)
        self.found.append(Word(self.text[start : self.at], line))
        if self.at == start:
            self.move(1)

    def _array_of(self, start: int) -> bool:
        """Whether an open parenthesis belongs to an array: ``NAME=(…)``."""
        return self.text[self.at] == "(" and bool(re.fullmatch(r"[A-Za-z_]\w*\+?=", self.text[start : self.at]))

    def _double(self) -> None:
        self.move(1)
        while self.at < len(self.text) and self.text[self.at] != '"':
            if self.text.startswith("$(", self.at):
                self.move(1)
                self.until(")", "(")
            else:
                self.move(2 if self.text[self.at] == "\\" else 1)
        self.move(1)

    def until(self, close: str, opening: str = "") -> None:
        """Move behind the closing character that matches the one at this place."""
        depth = 0
        self.move(1)
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == "\\" and close != "'":
                self.move(1)
            elif letter == close and not depth:
                break
            elif letter == "#" and close == ")" and self.text[self.at - 1] in " \t\n":
                end = self.text.find("\n", self.at)
                self.move((end if end >= 0 else len(self.text)) - self.at)
                continue
            else:
                depth += (letter == opening) - (letter == close)
            self.move(1)
        self.move(1)

    def move(self, count: int) -> None:
        """Move over characters, and count their lines."""
        count = min(count, len(self.text) - self.at)
        self.line += self.text.count("\n", self.at, self.at + count)
        self.at += count


def expanded(word: Word, variables: Variables) -> list[Word]:
    """Remove the quotes of a word and put variables in place; an unquoted variable of several words becomes several.

    >>> expanded(Word("a=${X:-2}/$Y", 3), {"Y": [Word("b", 1)]})
    [Word(text='a=2/b', line=3, unresolved=(), operator=False)]
    """
    reference = re.fullmatch(r'"?\$\{?([A-Za-z_]\w*)(?:\[[@*]\])?\}?"?', word.text)
    items = variables.get(reference[1]) if reference else None
    if items is not None and len(items) != 1:
        return [*items]
    if items is not None and not word.text.startswith('"') and re.search(r"\s", items[0].text):
        pieces = [piece for piece in Lexer(items[0].text, items[0].line).words() if not piece.operator]
        return [Word(text, piece.line, tuple(missing)) for piece in pieces for text, missing in [plain(piece.text, {})]]
    text, missing = plain(word.text, variables)
    if items is not None and not items[0].text and word.text.startswith("$"):
        return []  # an empty variable without quotes gives no words
    return [Word(text, word.line, tuple(missing))]


def plain(text: str, variables: Variables) -> tuple[str, list[str]]:
    """Return a word without quotes, and what in it is not known."""
    letters: list[str] = []
    missing: list[str] = []
    at, quoted = 0, False
    while at < len(text):
        letter = text[at]
        if letter == "'" and not quoted:
            end = text.find("'", at + 1)
            letters.append(text[at + 1 : end if end >= 0 else len(text)])
            at = (end if end >= 0 else len(text)) + 1
        elif letter == '"':
            quoted, at = not quoted, at + 1
        elif letter == "\\" and at + 1 < len(text):
            letters.append(
                ""
                if text[at + 1] == "\n"
                else text[at + 1]
                if not quoted or text[at + 1] in '"\\$`'
                else text[at : at + 2]
            )
            at += 2
        elif letter == "$" and at + 1 < len(text):
            value, end = _variable(text, at, variables, missing)
            if not value and text.startswith("/", end) and letters[-1:] in ([], ["="]):
                value = text[at:end]  # a folder to be filled in
                missing.append(value)
            letters.append(value)
            at = end
        else:
            letters.append(letter)
            at += 1
    return "".join(letters), missing


def _variable(text: str, at: int, variables: Variables, missing: list[str]) -> tuple[str, int]:
    """Return the value of what begins with ``$`` at this place, and where it ends."""
    lexer = Lexer(text, at=at)
    if text.startswith("$((", at):
        lexer.move(1)
        lexer.until(")", "(")
        inner = text[at + 3 : lexer.at - 2]
        return _computed(inner, variables, missing, text[at : lexer.at]), lexer.at
    if text.startswith("$(", at):
        lexer.move(1)
        lexer.until(")", "(")
        missing.append(text[at : lexer.at])
        return text[at : lexer.at], lexer.at
    if text.startswith("${", at):
        lexer.move(1)
        lexer.until("}", "{")
        return _braced(text[at + 2 : lexer.at - 1], variables, missing), lexer.at
    match = _NAME.match(text, at + 1)
    if match is None:
        end = at + 2 if at + 1 < len(text) and text[at + 1] in "@*#?0123456789" else at + 1
        if end > at + 1:
            missing.append(text[at:end])
        return text[at:end], end
    return _value(match[0], f"${match[0]}", variables, missing), match.end()


def _value(name: str, written: str, variables: Variables, missing: list[str]) -> str:
    if name not in variables:
        missing.append(written)
        return written
    for word in variables[name]:
        missing.extend(word.unresolved)
    return " ".join(word.text or "".join(word.unresolved) for word in variables[name])


def _braced(inner: str, variables: Variables, missing: list[str]) -> str:
    """Return the value of ``${…}``: a name, with a default where it is not set."""
    match = re.match(r"([A-Za-z_]\w*|\d+|[@*])(?:\[[@*]\])?(?:(:?[-=+?])(.*))?$", inner, re.DOTALL)
    computed = _changed(inner, variables) if match is None else None
    if computed is not None:
        return computed
    if match is None or inner.count("${") > MOST_NESTED:
        missing.append(f"${{{inner}}}")
        return f"${{{inner}}}"
    name, how, other = match[1], match[2] or "", match[3] or ""
    known = name in variables and not (how.startswith(":") and _is_empty(variables[name]))
    if known and not how.endswith("+"):
        return _value(name, f"${{{inner}}}", variables, missing)
    if how in {":-", "-", ":=", "="} or (known and how.endswith("+")):
        text, more = plain(other, variables)
        missing.extend(more)
        return text
    if how.endswith("+"):
        return ""
    missing.append(f"${{{inner}}}")
    return f"${{{inner}}}"


def _changed(inner: str, variables: Variables) -> str | None:
    """Return what a shell makes of a variable that is known: its length, an item or a part; None if it is not known."""
    match = re.fullmatch(r"(#?)([A-Za-z_]\w*)(?:\[([@*]|\d+)\])?(.*)", inner, re.DOTALL)
    words = variables.get(match[2]) if match else None
    if match is None or words is None or any(word.unresolved for word in words):
        return None
    count, _, index, how = match.groups()
    texts = [word.text for word in words]
    if count:
        return None if how else str(len(texts) if index in {"@", "*"} else len(" ".join(texts)))
    value = " ".join(texts) if index in {None, "@", "*"} else item(texts, index)
    return value if value is None or not how else changed(value, plain(how, variables)[0])


def _is_empty(words: Sequence[Word]) -> bool:
    return not any(word.text for word in words)


def _computed(inner: str, variables: Variables, missing: list[str], written: str) -> str:
    """Return the value of ``$((…))`` with whole numbers."""
    unknown: list[str] = []
    bare = _NAME.sub(lambda name: f"${name[0]}" if name[0] in variables else name[0], inner.replace("$", ""))
    text, _ = plain(bare.replace("{", "").replace("}", ""), variables)
    try:
        return str(calculated(text))
    except ValueError:
        missing.extend(unknown or [written])
        return written


def calculated(text: str) -> int:
    """Compute with whole numbers, as a shell does.

    >>> calculated("1024 * (2 + 1) / 4"), calculated("-7 / 2")
    (768, -3)

    Raises:
        ValueError: it is something else.
    """
    if not _ARITHMETIC.fullmatch(text) or len(text) > 200:
        raise ValueError(text)
    parts = re.findall(r"\d+|[-+*/%()]", text)
    value = _sum(parts)
    if parts:
        raise ValueError(text)
    return value


def _sum(parts: list[str]) -> int:
    value = _product(parts)
    while parts and parts[0] in "+-":
        sign = 1 if parts.pop(0) == "+" else -1
        value += sign * _product(parts)
    return value


def _product(parts: list[str]) -> int:
    value = _factor(parts)
    while parts and parts[0] in "*/%":
        operator, other = parts.pop(0), _factor(parts)
        if operator == "*":
            value *= other
        elif not other:
            raise ValueError("division by 0")
        else:
            quotient = abs(value) // abs(other) * (1 if (value < 0) == (other < 0) else -1)
            value = quotient if operator == "/" else value - quotient * other
        if len(str(value)) > MOST_DIGITS:
            raise ValueError("too large")
    return value


def _factor(parts: list[str]) -> int:
    if not parts:
        raise ValueError("nothing follows")
    part = parts.pop(0)
    if part in "+-":
        return _factor(parts) * (1 if part == "+" else -1)
    if part == "(":
        value = _sum(parts)
        if not parts or parts.pop(0) != ")":
            raise ValueError("a parenthesis is open")
        return value
    if not part.isdigit() or len(part) > MOST_DIGITS:
        raise ValueError(part)
    return int(part)

"""Which commands of a shell script run: its conditions are decided as far as the script itself says them.

A variable that it does not assign counts as empty.  What only a shell could know does not hold, and the first branch of
a ``case`` is taken; :class:`Flow` notes where that decided something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from recipec.importing.shell_words import Word, expanded, plain

Truth = bool | None
"""None: only a shell would know."""
MOST_OPEN = 200
"""Branches and loops inside each other that are read."""
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=.*", re.DOTALL)
_VARIABLE = re.compile(r'"?\$\{?([A-Za-z_]\w*)\}?"?')
_PLACE = re.compile(r"\$(?:[@*#?\d]|\{[@*#\d]|\{?[A-Za-z_])")
_PREFIXES = {"export", "local", "declare", "readonly"}
_OPENING = {"if", "elif", "while", "until", "for", "case"}
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "-eq": lambda one, other: one == other,
    "-ne": lambda one, other: one != other,
    "-lt": lambda one, other: one < other,
    "-le": lambda one, other: one <= other,
    "-gt": lambda one, other: one > other,
    "-ge": lambda one, other: one >= other,
}


@dataclass(slots=True)
class _Open:
    """A branch or a loop that is not yet closed."""

    kind: str
    outer: bool
    """Whether what is around it runs."""
    active: bool
    taken: bool = False
    """Whether one of its branches was taken."""
    doubt: tuple[int, str] | None = None
    """Line and text of a condition that only a shell would know."""
    word: Word | None = None
    patterns: list[Word] | None = None
    """Patterns of the next branch of a ``case``; None while a branch is read."""


@dataclass(slots=True)
class Flow:
    """Follows a script, statement by statement."""

    variables: dict[str, list[Word]]
    everything: bool = False
    """Read every branch."""
    assumed: dict[tuple[int, str], str] = field(default_factory=dict)
    """What was assumed of conditions that only a shell would know, by line and condition."""
    _open: list[_Open] = field(default_factory=list)
    _condition: list[Word] | None = None
    _before: tuple[str, Truth | str] = ("", "any")
    """Operator and result of the statement before."""

    def running(self, line: Sequence[Word], end: Word) -> list[Word]:
        """Return the words of a statement that are run; ``end`` is the operator after it."""
        words = list(line)
        if self._condition is not None:
            if not words or words[0].text not in {"then", "do"}:
                self._condition += [*words, end]
                return []
            self._decide(self._condition)
            self._condition = None
        words = self._keywords(words, end)
        inner = self._open[-1] if self._open else None
        if inner is not None and inner.kind == "case" and end.text == ";;":
            result = self._run(words, end)
            inner.active, inner.patterns = False, []
            return result
        return self._run(words, end)

    def _keywords(self, words: list[Word], end: Word) -> list[Word]:
        """Follow the words that open, continue and close branches and loops; return the others."""
        while words:
            inner = self._open[-1] if self._open else None
            word = words[0].text
            if inner is not None and inner.patterns is not None and word != "esac":
                return self._pattern(inner, words, end)
            if word in _OPENING:
                words = self._opened(words, end)
                continue
            if word == "else" and inner is not None:
                inner.active, inner.taken = inner.outer and not inner.taken, True
            elif word in {"fi", "done", "esac"} and self._open:
                self._open.pop()
            elif word not in {"then", "do", "else"}:
                return words
            words = words[1:]
        return words

    def _opened(self, words: list[Word], end: Word) -> list[Word]:
        """Open a branch or a loop; return the words after its head that are not part of a condition."""
        word = words[0].text
        if word != "elif":
            self._begin(word, active=word == "for")
        if word == "case":
            self._open[-1].word = words[1] if len(words) > 1 else None
            self._open[-1].patterns = []
            return words[3:]
        if word != "for":
            self._condition = [*words[1:], end]
        elif len(words) > 3 and words[2].text == "in":
            self.variables[words[1].text] = expanded(words[3], self.variables)[:1]
        return []

    def _begin(self, kind: str, *, active: bool = False) -> None:
        outer = all(one.active for one in self._open)
        if len(self._open) < MOST_OPEN:
            self._open.append(_Open(kind, outer, outer and active))

    def _decide(self, condition: list[Word]) -> None:
        """Take the branch, or the body of the loop, if its condition holds."""
        inner = self._open[-1]
        truth = _Condition(condition, self.variables).value()
        if inner.kind != "if":
            inner.active = inner.outer and truth is not False
            return
        holds = truth is True and not inner.taken
        if truth is None and not inner.taken:
            inner.doubt = (condition[0].line, " ".join(word.text for word in condition if word.text.strip()))
        inner.active, inner.taken = inner.outer and holds, inner.taken or holds

    def _pattern(self, inner: _Open, words: list[Word], end: Word) -> list[Word]:
        """Take a branch of a ``case`` if one of its patterns fits."""
        inner.patterns = [*(inner.patterns or []), *words]
        if end.text != ")":
            return []
        patterns, inner.patterns = inner.patterns, None
        texts = [plain(word.text, self.variables)[0] for word in patterns]
        value = _text(inner.word, self.variables) if inner.word is not None else None
        if value is None and inner.word is not None:
            holds = not inner.taken and not any(re.search(r"[*?\[]", text) for text in texts)
            named = _VARIABLE.fullmatch(inner.word.text)
            if holds and inner.outer:
                self.assumed[inner.word.line, f"case {inner.word.text}"] = f"`{texts[0]}`, its first branch"
                if named:
                    self.variables[named[1]] = [Word(texts[0], inner.word.line)]
        else:
            holds = not inner.taken and any(fnmatchcase(value or "", text) for text in texts)
        inner.active, inner.taken = inner.outer and holds, inner.taken or holds
        return []

    def _run(self, words: list[Word], end: Word) -> list[Word]:
        """Return a command if the branch it is in runs, and the commands before it let it run."""
        operator, result = self._before
        runs = (
            (operator != "&&" or result in (True, "any"))
            and (operator != "||" or result in (False, None, "any"))
            and all(one.active for one in self._open)
        )
        joined = end.text in {"&&", "||"}
        if not words:
            self._before = (end.text if joined else "", result)
            return []
        if words[0].text in {"[", "[[", "test"} and runs:
            self._before = (end.text if joined else "", _Condition(words, self.variables).value())
            return []
        if runs:
            assigns = all(_ASSIGNMENT.fullmatch(word.text) or word.text in _PREFIXES for word in words)
            result = True if assigns else "any"
        elif not self.everything:
            self._doubted(words)
        self._before = (end.text if joined else "", result)
        return words if runs or self.everything else []

    def _doubted(self, words: Sequence[Word]) -> None:
        """Note a condition that only a shell would know, where something that is skipped hangs on it."""
        if not any(_ASSIGNMENT.fullmatch(word.text) for word in words[:2]):
            return
        for one in self._open:
            if one.doubt is not None and one.outer and not one.active:
                self.assumed[one.doubt] = "that it does not hold"


def _text(word: Word, variables: dict[str, list[Word]]) -> str | None:
    """Return a word in which what the script does not assign is empty; None if only a shell would know it."""
    text, missing = plain(word.text, variables)
    for piece in missing:
        if not _PLACE.match(piece):
            return None
        text = text.replace(piece, "0" if piece == "$#" else "")
    return text


@dataclass(slots=True)
class _Condition:
    """The value of a list of tests, such as ``[ "$A" = b ] && [[ -n $C || $D -gt 1 ]]``."""

    words: Sequence[Word]
    variables: dict[str, list[Word]]
    at: int = 0

    def value(self) -> Truth:
        """Return whether the list holds: the last of its statements decides."""
        truth: Truth = None
        while self.at < len(self.words):
            if self._here() in {";", "\n", "&"}:
                self.at += 1
                continue
            if self._here() in {"}", ")", "]]", "]"}:
                break
            truth = self._list()
        return truth

    def _here(self) -> str:
        return self.words[self.at].text if self.at < len(self.words) else ""

    def _list(self) -> Truth:
        """Read tests that are joined, from left to right."""
        truth = self._test()
        while self._here() in {"&&", "||", "-a", "-o"}:
            both = self._here() in {"&&", "-a"}
            self.at += 1
            other = self._test()
            truth = _and(truth, other) if both else _or(truth, other)
        return truth

    def _test(self) -> Truth:
        """Read one test, a negation or a list in brackets."""
        word = self._here()
        self.at += 1
        if word == "!":
            return _not(self._test())
        if word in {"[", "[[", "{", "("}:
            truth = self._list() if word in {"[", "[["} else self.value()
            if self._here() in {"]", "]]", "}", ")"}:
                self.at += 1
            return truth
        if word in {"true", ":", "false"}:
            return word != "false"
        if word == "test":
            return self._list()
        self.at -= 1
        return self._compared()

    def _compared(self) -> Truth:
        """Read a comparison, a test of one word, or a command: that has no known result."""
        words: list[Word] = []
        while self.at < len(self.words):
            word = self.words[self.at]
            if word.text in {"]", "]]", "-a", "-o"} or (word.operator and word.text not in {"<", ">"}):
                break
            words.append(word)
            self.at += 1
        if not words:  # an operator that joins no tests, such as a pipe
            self.at += 1
            return None
        texts = [_text(word, self.variables) for word in words]
        closed = self._here() in {"]", "]]", "-a", "-o"} or (self.at and self._here() in {"&&", "||"})
        if not closed or None in texts:
            return None
        return _holds([text or "" for text in texts])


def _holds(texts: Sequence[str]) -> Truth:
    """Return the value of a test of one, two or three words."""
    if len(texts) == 1:
        return bool(texts[0])
    if len(texts) == 2 and texts[0] in {"-n", "-z"}:
        return bool(texts[1]) == (texts[0] == "-n")
    if len(texts) != 3:
        return None
    one, operator, other = texts
    if operator in {"=", "==", "!="}:
        return fnmatchcase(one, other) == (operator != "!=")
    if operator in _COMPARED:
        numbers = [float(text or 0) if re.fullmatch(r"-?\d*", text) and text != "-" else None for text in (one, other)]
        return None if None in numbers else _COMPARED[operator](numbers[0] or 0.0, numbers[1] or 0.0)
    return None


def _not(one: Truth) -> Truth:
    return None if one is None else not one


def _and(one: Truth, other: Truth) -> Truth:
    return False if one is False or other is False else None if None in (one, other) else True


def _or(one: Truth, other: Truth) -> Truth:
    return True if one is True or other is True else None if None in (one, other) else False

"""Answers of judges: read from the protocol, kept in a file, and the score in them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recipec.spec import reward as specs

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w])")
_SECONDS = 1.0
"""Longest time of a search by the pattern of a recipe in one answer."""
_LONGEST = 64 << 10
"""Characters of an answer that are searched, from its end."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge wrote, and what it counted: ``Verdict("Score: 4", 120, 5)``."""

    text: str
    tokens_in: int
    tokens_out: int


class KeptAnswers:
    """Answers by the hash of their request, in memory and in a file that a resumed run reads."""

    def __init__(self, path: Path | None) -> None:
        """Read ``path``, if it is there; a line that was cut when the run was killed is left out."""
        self.path = path
        self._known: dict[str, Verdict] = {}
        for line in path.read_bytes().splitlines() if path is not None and path.is_file() else ():
            try:
                entry = json.loads(line)
                key = str(entry.pop("key"))
                self._known[key] = Verdict(**entry)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue

    def __contains__(self, key: str) -> bool:
        """Whether a request was answered."""
        return key in self._known

    def get(self, key: str) -> Verdict | None:
        """Return the answer to a request; None if there is none."""
        return self._known.get(key)

    def add(self, key: str, verdict: Verdict) -> None:
        """Keep an answer."""
        self._known[key] = verdict
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as stream:
            # a line before it may have been cut
            stream.write(b"\n" + json.dumps({"key": key, **asdict(verdict)}).encode() + b"\n")


def read_answer(body: bytes) -> Verdict | None:
    """Return what a service answered; None where it is not an answer of chat completions.

    >>> read_answer(b'{"choices": [{"message": {"content": "4"}}], "usage": {"prompt_tokens": 9}}')
    Verdict(text='4', tokens_in=9, tokens_out=0)
    """
    try:
        completion = json.loads(body)
        text = completion["choices"][0]["message"]["content"]
        usage = completion.get("usage") or {}
        counts = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    tokens_in, tokens_out = (n if type(n) is int and 0 <= n < 1 << 40 else 0 for n in counts)
    return Verdict(text, tokens_in, tokens_out) if isinstance(text, str) else None


def score_of(spec: specs.Judge, text: str) -> float:
    """Return the score in an answer; NaN where there is none in the range.

    >>> judge = specs.Judge(service="a", model="b", rubric="{{ completion }}", range=(1, 5))
    >>> score_of(judge, "Of 10 points I give it 4."), score_of(judge, "9"), score_of(judge, "none")
    (4.0, nan, nan)
    """
    written: Any = {"number": _last_number, "regex": _matched, "json": _field}[spec.score](spec, text[-_LONGEST:])
    try:
        value = math.nan if isinstance(written, bool) or written is None else float(written)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return value if spec.range[0] <= value <= spec.range[1] else math.nan


def _last_number(spec: specs.Judge, text: str) -> str | None:  # noqa: ARG001 - one signature
    numbers = _NUMBER.findall(text)
    return numbers[-1] if numbers else None


def _matched(spec: specs.Judge, text: str) -> str | None:
    import regex  # noqa: PLC0415 - it can stop a search that runs away, `re` cannot

    assert spec.pattern is not None, "the spec asks for it"
    try:
        matches = [match[1] for match in regex.finditer(spec.pattern, text, regex.VERSION0, timeout=_SECONDS)]
    except TimeoutError:
        return None
    return matches[-1] if matches else None


def _field(spec: specs.Judge, text: str) -> Any:
    """Return the field of the last JSON object of a text that has it."""
    decoder, last = json.JSONDecoder(), None
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            place = text.find("{", place + 1)
            continue
        if isinstance(value, dict) and spec.field in value:
            last = value[spec.field]
        place = text.find("{", end)
    return last

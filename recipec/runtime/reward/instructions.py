"""The verifiable instructions of IFEval; see :class:`recipec.spec.reward.Ifeval`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.phrases import did_you_mean
from recipec.runtime.batch import Task
from recipec.runtime.reward.answers import bad_answer, no_answer_column, tagged
from recipec.runtime.reward.json_schema import read_json

Check = Callable[[str, Mapping[str, Any]], bool]
_OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCE = re.compile(r"\A```(?:json)?|```\Z", re.IGNORECASE)
_QUOTES = "'\""


def ifeval(
    prompt_P: Sequence[Task],
    by_prompt_R: Tensor,
    text_R: Sequence[str],
    *,
    instructions: str,
    arguments: str,
    ignore: Sequence[str],
    tag: str | None,
    loose: bool,
    score: str,
) -> dict[str, Tensor]:
    """Check the instructions of each row.

    Raises:
        RecipeError: RC741 the task lacks a column, RC742 it lists no instructions, or one that is not known or lacks
            an argument.

    >>> columns = {"instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
    ...            "kwargs": [{}, {"keywords": ["sea"]}]}
    >>> parameters = {"instructions": "instruction_id_list", "arguments": "kwargs", "ignore": (), "tag": None}
    >>> texts = ["The sea is wide.", "Wide, the sea."]
    >>> ifeval([Task(0, "?", (1,), columns)], torch.tensor([0, 0]), texts, **parameters, loose=False, score="share")
    {'reward_R': tensor([1.0000, 0.5000], dtype=torch.float64)}
    """
    wanted = {p: _instructions(prompt_P[p], instructions, arguments, ignore) for p in set(by_prompt_R.tolist())}
    scores = []
    for prompt, text in zip(by_prompt_R.tolist(), text_R, strict=True):
        answers = variants(tagged(text, tag) or "") if loose else [tagged(text, tag) or ""]
        followed = [
            any(answer.strip() and CHECKS[name](answer, options) for answer in answers)
            for name, options in wanted[prompt]
        ]
        scores.append(float(all(followed)) if score == "all" else sum(followed) / len(followed))
    return {"reward_R": torch.tensor(scores, dtype=torch.float64)}


def variants(text: str) -> list[str]:
    """Return a text, and the text without its first line, its last line and both, each also without asterisks.

    >>> variants("Sure: *x*")[:2]
    ['Sure: *x*', 'Sure: x']
    """
    lines = text.split("\n")
    cut = ["\n".join(lines[first:last]).strip() for first, last in ((1, None), (None, -1), (1, -1))]
    return [form for whole in (text, *cut) for form in (whole, whole.replace("*", ""))]


def _instructions(task: Task, names: str, arguments: str, ignore: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the instructions of a row that are checked, each with its arguments."""
    for column in (names, arguments):
        if column not in task.columns:
            raise no_answer_column(task, column, "instructions")
    listed, each = read_json(task.columns[names]), read_json(task.columns[arguments])
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str) for name in listed):
        raise bad_answer(task, names, task.columns[names], "not a list of instructions")
    if not isinstance(each, list) or len(each) != len(listed):
        problem = "not a list with the arguments of each instruction"
        raise bad_answer(task, arguments, task.columns[arguments], problem)
    kept = [(name, more or {}) for name, more in zip(listed, each, strict=True) if name not in ignore]
    for name, more in kept:
        if name not in CHECKS:
            problem = f"with the instruction `{name}`, which is not checked: name it in `ignore`, or leave the row out"
            raise bad_answer(task, names, listed, f"{problem} {did_you_mean(name, CHECKS)}".strip())
        try:
            CHECKS[name]("Text.", more)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"without {error}" if isinstance(error, KeyError) else f"which do not fit: {error}"
            problem = f"the arguments of `{name}`, {reason}"
            raise bad_answer(task, arguments, more, problem) from None
    if not kept:
        raise bad_answer(task, names, listed, "all of which are ignored")
    return kept


def _compare(count: int, relation: Any, bound: Any) -> bool:
    if relation not in {"less than", "at least"}:
        raise ValueError(f"a relation, not {relation!r}")
    return count < int(bound) if relation == "less than" else count >= int(bound)


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise TypeError(f"a list of words, not {value!r}")
    return value


def _words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def sentences(text: str) -> int:
    """Count sentences: runs of text that end at a full stop, an exclamation or question mark before white space.

    >>> sentences("One. Two!  3.5 is a number? And the rest")
    4
    """
    return sum(bool(part.strip()) for part in re.split(r"(?<=[.!?])[\"')\]]*\s+", text.strip()))


def _keyword_count(text: str, word: str) -> int:
    return len(re.findall(re.escape(word.strip()), text, re.IGNORECASE))


def _keywords(text: str, options: Mapping[str, Any]) -> bool:
    return all(_keyword_count(text, word) for word in _texts(options["keywords"]))


def _no_forbidden(text: str, options: Mapping[str, Any]) -> bool:
    words = _texts(options["forbidden_words"])
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in words)


def _paragraphs(text: str, options: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    inner = parts[1 if not parts[0] else 0 : len(parts) - (len(parts) > 1 and not parts[-1])]
    return all(inner) and len(inner) == int(options["num_paragraphs"])


def _first_word(text: str, options: Mapping[str, Any]) -> bool:
    nth, count, wanted = int(options["nth_paragraph"]), int(options["num_paragraphs"]), options["first_word"].lower()
    parts = text.split("\n\n")
    full = sum(bool(part.strip()) for part in parts)
    if not 1 <= nth <= full or full != count or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip(_QUOTES).lower()
    return bool(re.split(r"[.,?!'\"]", word)[0] == wanted)


def _bullets(text: str, options: Mapping[str, Any]) -> bool:
    bullets = re.findall(r"^[^\S\n]*(?:\*[^*\n]|-)", text, re.MULTILINE)
    return len(bullets) == int(options["num_bullets"])


def _highlights(text: str, options: Mapping[str, Any]) -> bool:
    once = [part for part in re.findall(r"\*[^\n*]*\*", text) if part.strip("* ")]
    twice = [part for part in re.findall(r"\*\*[^\n*]*\*\*", text) if part.strip("* ")]
    return len(once) + len(twice) >= int(options["num_highlights"])


def _sections(text: str, options: Mapping[str, Any]) -> bool:
    mark = re.escape(options["section_spliter"].strip())
    return len(re.findall(rf"{mark}\s?\d+", text)) >= int(options["num_sections"])


def _is_json(text: str, _: Mapping[str, Any]) -> bool:
    try:
        json.loads(_FENCE.sub("", text.strip()).strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str, _: Mapping[str, Any]) -> bool:
    return any(title.strip("<> ") for title in re.findall(r"<<[^\n]+>>", text))


def _postscript(text: str, options: Mapping[str, Any]) -> bool:
    mark = re.escape(options["postscript_marker"].strip().lower()).replace(r"\.", r"\.\s?")
    return re.search(mark, text.lower()) is not None


def _two_responses(text: str, _: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in text.split("******")]
    full = [part for part in parts if part]
    return all(parts[1:-1]) and len(full) == 2 and full[0] != full[1]


def _starts_with(text: str, options: Mapping[str, Any]) -> bool:
    return text.strip().lower().startswith(options["prompt_to_repeat"].strip().lower())


def _ends_with(text: str, options: Mapping[str, Any]) -> bool:
    return text.strip().strip('"').lower().endswith(options["end_phrase"].strip().lower())


def _capital_words(text: str, options: Mapping[str, Any]) -> bool:
    count = sum(word.isupper() for word in re.findall(r"[\w'-]+", text))
    return _compare(count, options["capital_relation"], options["capital_frequency"])


CHECKS: Mapping[str, Check] = {
    "keywords:existence": _keywords,
    "keywords:frequency": lambda t, a: _compare(_keyword_count(t, a["keyword"]), a["relation"], a["frequency"]),
    "keywords:forbidden_words": _no_forbidden,
    "keywords:letter_frequency": lambda t, a: _compare(
        t.lower().count(a["letter"].strip().lower()), a["let_relation"], a["let_frequency"]
    ),
    "length_constraints:number_sentences": lambda t, a: _compare(sentences(t), a["relation"], a["num_sentences"]),
    "length_constraints:number_words": lambda t, a: _compare(_words(t), a["relation"], a["num_words"]),
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": lambda t, a: (
        len(re.findall(r"\[[^\]\n]*\]", t)) >= int(a["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:constrained_response": lambda t, _: any(option in t for option in _OPTIONS),
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _is_json,
    "detectable_format:title": _title,
    "combination:two_responses": _two_responses,
    "combination:repeat_prompt": _starts_with,
    "startend:end_checker": _ends_with,
    "startend:quotation": lambda t, _: len(t.strip()) > 1 and t.strip()[0] == '"' == t.strip()[-1],
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda t, _: t.isupper(),
    "change_case:english_lowercase": lambda t, _: t.islower(),
    "punctuation:no_comma": lambda t, _: "," not in t,
}
"""Whether a text follows an instruction, given its arguments."""

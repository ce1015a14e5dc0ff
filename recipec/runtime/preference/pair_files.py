"""Preference pairs with their evidence: filter, write and read them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recipec.host.artifacts import committed, verify_folder
from recipec.host.jsonl import read_lines, to_lines
from recipec.host.ranks import Ranks
from recipec.runtime.batch import Example, Message, Task
from recipec.runtime.preference.sample_answers import Answer
from recipec.runtime.protocols import Preference
from recipec.runtime.reward.answers import folded, normalised, right_answers, tagged

if TYPE_CHECKING:
    from recipec.spec.preference import KgRag, KgRank

PAIRS, SUMMARY = "pairs.jsonl", "summary.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt, the better one first, with the evidence for it.

    Example: ``Pair(task, best, worst, margin=2.0, evidence={"rule": "kg_rank", ...})``.
    """

    task: Task
    chosen: Answer
    rejected: Answer
    margin: float
    evidence: Mapping[str, Any]


def reason_against(task: Task, one: Answer, other: Answer, filters: KgRag | KgRank) -> str | None:
    """Return why two answers are not used as a pair, or None.

    Raises:
        RecipeError: RC741 or RC742, the task lacks the column of the label.
    """
    if not one.ids or not other.ids:
        return "empty"
    if one.ids == other.ids or (normalised(one.text) or one.text) == (normalised(other.text) or other.text):
        return "equal"
    if filters.ended and not (one.ended and other.ended):
        return "cut"
    longer, shorter = max(len(one.ids), len(other.ids)), min(len(one.ids), len(other.ids))
    if filters.max_length_ratio is not None and longer > filters.max_length_ratio * shorter:
        return "length_ratio"
    if filters.label is not None:
        labels = right_answers(task, filters.label)
        if not all(any(names(answer.text, label, filters.tag) for label in labels) for answer in (one, other)):
            return "label"
    return None


def names(text: str, label: str, tag: str | None) -> bool:
    """Whether a text contains a label as whole words, case and space folded; with ``tag``, in the last such tag.

    >>> names("It is Melanoma.", "melanoma", None), names("It is not melanomata.", "melanoma", None)
    (True, False)
    >>> names("melanoma <answer>rosacea</answer>", "melanoma", "answer")
    False
    """
    part = tagged(text, tag)
    return part is not None and bool(re.search(rf"(?<!\w){re.escape(folded(label))}(?!\w)", folded(part)))


def widest(pairs: Sequence[Pair], most: int | None) -> list[Pair]:
    """Return the pairs with the largest margins, sorted by margin and then in the order of the data."""
    return sorted(pairs, key=lambda pair: (-pair.margin, pair.task.id))[:most]


def columns(pairs: Sequence[Pair]) -> dict[str, list[Any]]:
    """Return the training columns: both answers as sampled, after the prompt of the task."""
    return {
        "prompt_P": [pair.task for pair in pairs],
        "chosen_P": [_example(pair.task, pair.chosen) for pair in pairs],
        "rejected_P": [_example(pair.task, pair.rejected) for pair in pairs],
    }


def _example(task: Task, answer: Answer) -> Example:
    trained = (False,) * len(task.prompt_ids) + (True,) * len(answer.ids)
    return Example(task.id, (*task.prompt_ids, *answer.ids), trained, task.images)


def write_pairs(folder: Path, pairs: Sequence[Pair], left_out: Mapping[str, int]) -> None:
    """Write pairs with their evidence, and the number of pairs left out."""
    write_rows(folder, [_written(pair) for pair in pairs], left_out)


def write_rows(folder: Path, rows: Sequence[Mapping[str, Any]], left_out: Mapping[str, int]) -> None:
    """Write ``pairs.jsonl``, a pair a line, and ``summary.json`` with the number of pairs left out."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAIRS).write_text(to_lines(rows), encoding="utf-8")
    summary = {"pairs": len(rows), "left_out": dict(left_out)}
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _written(pair: Pair) -> dict[str, Any]:
    return {
        "prompt_id": pair.task.id,
        "prompt": plain(pair.task.prompt),
        "prompt_ids": list(pair.task.prompt_ids),
        "images": [picture.path for picture in pair.task.images],
        **_side("chosen", pair.chosen),
        **_side("rejected", pair.rejected),
        "margin": pair.margin,
        "evidence": pair.evidence,
    }


def plain(prompt: str | Sequence[Message]) -> str | list[dict[str, Any]]:
    """Return a prompt as JSON can express it."""
    return prompt if isinstance(prompt, str) else [dict(message) for message in prompt]


def _side(name: str, answer: Answer) -> dict[str, Any]:
    fields = {"": answer.text, "_ids": list(answer.ids), "_ended": answer.ended, "_seed": list(answer.seed)}
    return {f"{name}{key}": value for key, value in fields.items()}


def read_pairs(folder: Path, tasks: Sequence[Task]) -> tuple[list[Pair], dict[str, int]]:
    """Read the pairs of these tasks that :func:`write_pairs` wrote, and the number of pairs left out."""
    by_id = {task.id: task for task in tasks}
    pairs = [_read(row, by_id) for row in read_lines(folder / PAIRS)]
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    assert len(pairs) == summary["pairs"], "the artifact was verified"
    return pairs, dict(summary["left_out"])


def _read(row: Mapping[str, Any], tasks: Mapping[int, Task]) -> Pair:
    task = tasks[row["prompt_id"]]
    assert list(task.prompt_ids) == row["prompt_ids"], "the digest of the stage covers data and tokenizer"
    chosen, rejected = (
        Answer(tuple(row[f"{side}_ids"]), row[side], row[f"{side}_ended"], tuple(row[f"{side}_seed"]))
        for side in ("chosen", "rejected")
    )
    return Pair(task, chosen, rejected, float(row["margin"]), row["evidence"])


def made_once(
    preference: Preference, columns: Mapping[str, Any], final: Path, about: Mapping[str, Any], ranks: Ranks
) -> dict[str, Any]:
    """Build the pairs of a stage and commit them, or read those that an interrupted run built.

    A continued run must not build them again: its policy has changed, and so would the pairs.  ``columns`` are the
    arguments of the preference.
    """

    def there() -> bool:
        metadata = verify_folder(final)
        return metadata is not None and metadata.get("digest") == about["digest"]

    if ranks.on_leader(there):
        return preference.read(final, **columns)
    pairs = preference(**columns)

    def write() -> None:
        with committed(final, about) as folder:
            preference.write(folder)
        preference.discard_partial()

    ranks.on_leader(write)
    return pairs

"""Samples of a run that can be browsed in the report: of several steps, with levels, turns, images, right answer."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from recipec.host.jsonl import read_lines
from recipec.report.rendering import embedded

BYTES = 1_300_000
"""Size of all samples of a page."""
STEPS = 5
"""Most steps of a stage, and most moments of an evaluation, that are shown."""
TEXT = 4000
"""Characters of a text."""
PICTURES = 400_000
"""Characters of all thumbnails of a page."""
_PICTURE_BYTES = 64 << 10
_IMAGES = 4
_DIGEST = re.compile(r"[0-9a-f]{8,128}")
_T = TypeVar("_T")
RIGHT = ("answer", "ground_truth", "solution", "label", "completion")
"""Columns that may hold the right answer."""


def browsable(folder: Path, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Return samples of a few steps and evaluations of each stage, the latest first, those of each thinned to fit.

    Both ends by reward come first, then ever finer between them; tasks of an evaluation that a later one has kept are
    kept before others, so that the answers to a task can be followed.
    """
    sets = [(stage, *one) for stage in reversed(stages) for one in _sets(folder / "stages" / stage / "samples")]
    first = {evaluation: episodes for _, evaluation, _, episodes in sets if evaluation}
    begun = {evaluation: (stage, step) for stage, evaluation, step, _ in sets if evaluation}
    samples: list[dict[str, Any]] = []
    kept: dict[tuple[str, str], set[Any]] = {}
    left = BYTES
    for number, (stage, evaluation, step, episodes) in enumerate(sets):
        since = begun.get(evaluation) if evaluation and begun[evaluation] != (stage, step) else None
        tasks = kept.setdefault((evaluation, "" if evaluation else stage), set())
        head = {
            "stage": stage,
            "set": f"{evaluation or 'training'}, step {step}",
            "evaluation": evaluation,
            "step": step,
        }
        if since:
            head["since"] = "before training" if since[1] == 0 else f"{since[0]}, step {since[1]}"
        room, chosen = left // (len(sets) - number), []
        ordered = sorted(episodes.items(), key=lambda item: -item[1]["reward"])
        for key, one in sorted(_spread(ordered), key=lambda item: item[1]["task"] not in tasks):
            changed = (
                {"change": round(one["reward"] - first[evaluation][key]["reward"], 4)}
                if since and key in first[evaluation]
                else {}
            )
            sample = {**head, **one, **changed}
            size = len(embedded(sample).encode("utf-8", "replace"))
            if size > room:
                break
            room, left = room - size, left - size
            chosen.append(sample)
        tasks |= {one["task"] for one in chosen}
        samples += sorted(chosen, key=lambda one: -one["reward"])
    return samples


def _spread(rows: Sequence[_T]) -> Iterator[_T]:
    """Yield all rows, both ends first, then ever finer between them."""
    seen: set[int] = set()
    parts = 1
    while len(seen) < len(rows):
        for i in range(parts + 1):
            place = i * (len(rows) - 1) // parts
            if place not in seen:
                seen.add(place)
                yield rows[place]
        parts *= 2


def _sets(folder: Path) -> Iterator[tuple[str, int, dict[Any, dict[str, Any]]]]:
    """Yield evaluation (empty for training), step and episodes of a few files of each kind, the latest first."""
    by_name: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("eval-*.jsonl"), *folder.glob("step-*.jsonl")], reverse=True):
        name, _, step = path.stem.rpartition("-")
        if step.isdigit():
            by_name.setdefault(name, []).append(path)
    for name, paths in by_name.items():
        last = len(paths) - 1
        for place in sorted({last * i // (STEPS - 1) for i in range(STEPS)}):
            number = int(paths[place].stem.rpartition("-")[2])
            yield name.partition("-")[2], number, episodes_of(read_lines(paths[place]))


def episodes_of(rows: Sequence[Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Join rows that are turns of one episode; the key tells prompt and episode."""
    by_episode: dict[Any, dict[str, Any]] = {}
    firsts: dict[Any, str] = {}
    for number, row in enumerate(rows):
        key = (row.get("prompt_id", number), row.get("episode_id", number))
        turn = {"prompt": text_of(row.get("prompt"))[:TEXT], "text": str(row.get("text", ""))[:TEXT]}
        if "episode_step" in row and key in by_episode:
            by_episode[key]["turns"].append(turn)
            by_episode[key]["turns"][0]["text"] = firsts[key]
            by_episode[key]["reward"] = round(by_episode[key]["reward"] + float(row.get("reward") or 0.0), 4)
            continue
        firsts[key] = turn["text"]
        turn["text"] = str(row.get("transcript") or turn["text"])[:TEXT]  # with what the environment answered
        columns = row.get("columns") if isinstance(row.get("columns"), dict) else {}
        right = next((columns[name] for name in RIGHT if columns and columns.get(name) not in (None, "")), None)
        levels = {
            name: round(float(value), 4) for name, value in (row.get("rewards") or {}).items() if value is not None
        }
        by_episode[key] = {
            "task": row.get("prompt_id", number),
            "tree": row.get("tree_id"),
            "images": _digests(row),
            "turns": [turn],
            "reward": round(float(row.get("reward") or 0.0), 4),
            "levels": levels,
            "right": text_of(right)[:TEXT] if right is not None else None,
            "problem": row.get("error") or None,
        }
    return by_episode


def pictures(folder: Path, samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return thumbnails of the images of samples as Base64 by digest, as many as fit."""
    by_digest: dict[str, str] = {}
    room = PICTURES
    for one in samples:
        for digest in one["images"]:
            data = by_digest.get(digest) or thumbnail(folder / "stages" / one["stage"] / "samples" / "images", digest)
            if data is not None and digest not in by_digest and len(data) <= room:
                room -= len(data)
                by_digest[digest] = data
    return by_digest


def thumbnail(folder: Path, digest: str) -> str | None:
    """Read the thumbnail of an image as Base64; None if it is not a small JPEG file."""
    path = folder / f"{digest}.jpg"
    if not _DIGEST.fullmatch(digest) or path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as stream:
        data = stream.read(_PICTURE_BYTES + 1)
    if len(data) > _PICTURE_BYTES or not data.startswith(b"\xff\xd8\xff"):
        return None
    return base64.b64encode(data).decode("ascii")


def _digests(row: Mapping[str, Any]) -> list[str]:
    recorded = row.get("images")
    images = recorded[:_IMAGES] if isinstance(recorded, list) else []
    return [str(image.get("digest")) for image in images if isinstance(image, dict)]


def text_of(prompt: Any) -> str:
    """Write a prompt as text, a conversation as one line a message.

    >>> text_of([{"role": "user", "content": "2+2?"}])
    'user: 2+2?'
    """
    if isinstance(prompt, list) and all(isinstance(one, dict) and "role" in one for one in prompt):
        return "\n".join(f"{one['role']}: {_content(one.get('content'))}" for one in prompt)
    return prompt if isinstance(prompt, str) else "" if prompt is None else json.dumps(prompt, ensure_ascii=False)


def _content(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text") or f"[{part.get('type')}]") for part in content if isinstance(part, dict))
    return str(content)

"""Samples of a run that can be browsed in the report: every one that fits, with levels, turns, images, right answer."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipec.host.jsonl import read_lines

BYTES = 1_200_000
"""Size of all samples of a page."""
TEXT = 4000
"""Characters of a text."""
PICTURES = 400_000
"""Characters of all thumbnails of a page."""
_PICTURE_BYTES = 64 << 10
_IMAGES = 4
_DIGEST = re.compile(r"[0-9a-f]{8,128}")
RIGHT = ("answer", "ground_truth", "solution", "label", "completion")
"""Columns that may hold the right answer."""


def browsable(folder: Path, stages: Sequence[str]) -> list[dict[str, Any]]:
    """Return the samples of the last step and the last evaluations of each stage, thinned evenly by reward to fit."""
    sets = [(stage, *one) for stage in stages for one in _sets(folder / "stages" / stage / "samples")]
    samples: list[dict[str, Any]] = []
    for stage, name, episodes in sets:
        room, chosen = BYTES // len(sets), []
        episodes.sort(key=lambda one: -one["reward"])
        for one in _spread(episodes):
            sample = {"stage": stage, "set": name, **one}
            room -= len(json.dumps(sample, ensure_ascii=False).encode())
            if room < 0:
                break
            chosen.append(sample)
        samples += sorted(chosen, key=lambda one: -one["reward"])
    return samples


def _spread(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
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


def _sets(folder: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield name and episodes of the last step, and of each evaluation's last file with changes since its first."""
    if steps := sorted(folder.glob("step-*.jsonl")):
        yield f"training, step {int(steps[-1].stem[5:])}", list(episodes_of(read_lines(steps[-1])).values())
    by_name: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("eval-*.jsonl")):
        by_name.setdefault(path.stem[5:-7], []).append(path)
    for name, paths in by_name.items():
        last, first = episodes_of(read_lines(paths[-1])), episodes_of(read_lines(paths[0]))
        for key, one in last.items():
            if len(paths) > 1 and key in first:
                one["change"] = round(one["reward"] - first[key]["reward"], 4)
        yield f"{name}, step {int(paths[-1].stem[-6:])}", list(last.values())


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

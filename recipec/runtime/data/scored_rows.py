"""Rollout files: the scored rows of an RL stage, for browsing, preference pairs and imitation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.checksums import write_with_sum
from recipec.host.jsonl import read_objects, to_lines
from recipec.runtime.batch import Message, Task
from recipec.runtime.images.picture import places

LARGEST_ID = 1 << 31
"""Token ids are smaller."""
Read = Callable[[list[int]], str]
_MORE = {
    "episode_id": "episode_id_R",
    "episode_step": "step_R",
    "tree_id": "by_tree_R",
    "state": "state_R",
    "action_valid": "action_valid_R",
    "env_reward": "env_reward_R",
    "score": "score_R",
    "transcript": "transcript_R",
    "advantage": "advantage_R",
    "policy_version": "policy_version_R",
}
"""Further keys of a row, for the signals that the stage has."""


@dataclass(frozen=True, slots=True)
class RolloutRow:
    """One row as sampled; ``reward`` is its episode's score, NaN where it could not be scored.

    Example: ``RolloutRow(3, 7, "2+2=", (17, 10), (19, 2), (True, True), "4", 1.0, {}, "step-000003.jsonl", 1)``.
    """

    step: int
    prompt_id: int
    prompt: str | Sequence[Message]
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    text: str
    reward: float
    columns: Mapping[str, Any]
    file: str
    line: int
    episode: int = -1
    """Rows of one file and one episode belong together; -1 where it is not known."""
    images: tuple[tuple[str, str], ...] = ()
    """Path, relative to the recipe, and digest of each image of the prompt."""


def write_rows(
    path: Path,
    columns: Mapping[str, Any],
    *,
    levels: Mapping[str, Tensor] | None = None,
    step: int = 0,
    read: Read | None = None,
) -> None:
    """Write the rows of one step, one JSON object a line; the file appears whole or not at all.

    ``columns`` are by signal name: ``prompt_P``, ``by_prompt_R``, ``tokens_RT``, ``attend_RT``, ``trained_RT``,
    ``text_R``, ``reward_R``, and those of ``_MORE`` that exist; ``levels`` are the rewards by level.
    The prompt of a row is everything before its first trained token; ``read`` decodes it where it is not the prompt of
    the task.
    """
    tasks: Sequence[Task] = columns["prompt_P"]
    rows = []
    for row, prompt in enumerate(columns["by_prompt_R"].tolist()):
        written = _row(row, tasks[prompt], columns, step, read)
        if "error_text_R" in columns and (error := columns["error_text_R"][row]):
            written["error"] = error
        written["rewards"] = {name: _number(level_R[row]) for name, level_R in (levels or {}).items()}
        rows.append(written)
    write_with_sum(path, to_lines(rows))


def _row(row: int, task: Task, columns: Mapping[str, Any], step: int, read: Read | None) -> dict[str, Any]:
    length = int(columns["attend_RT"][row].sum())
    trained_T = columns["trained_RT"][row, :length]
    start = int(trained_T.int().argmax()) if bool(trained_T.any()) else length
    failed = "failed_R" in columns and bool(columns["failed_R"][row])
    trained = trained_T[start:].tolist()
    ids = columns["tokens_RT"][row, :length].tolist()
    own = task.prompt if isinstance(task.prompt, str) else [dict(m) for m in task.prompt]
    fields: dict[str, Any] = {
        "step": step,
        "prompt_id": task.id,
        "prompt": own if read is None or ids[:start] == list(task.prompt_ids) else read(ids[:start]),
        "prompt_ids": ids[:start],
        "ids": ids[start:],
        "text": columns["text_R"][row],
        "reward": None if failed else _number(columns["reward_R"][row]),
        "columns": _plain(task.columns),
    }
    if task.images:
        fields["images"] = list(recorded_images(task))
    if not all(trained):
        fields["trained"] = [int(t) for t in trained]
    for name, signal in _MORE.items():
        if columns.get(signal) is not None:
            fields[name] = _value(columns[signal][row])
    if fields.get("transcript") == fields["text"]:
        del fields["transcript"]
    return fields


def recorded_images(task: Task) -> Iterator[dict[str, Any]]:
    """Yield what is recorded of each image of a prompt: path, digest, and where its tokens begin and end."""
    for image, (begin, end) in zip(task.images, places(task.prompt_ids, task.images), strict=True):
        yield {"path": image.path, "digest": image.digest, "tokens": [begin, end]}


def _value(value: Any) -> Any:
    """Return a row's value of a column as JSON keeps it."""
    if not isinstance(value, Tensor):
        return _plain(value)
    return _number(value) if value.is_floating_point() else value.item()


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _plain(value: Any) -> Any:
    """Return a column's value as JSON can keep it; numbers that JSON does not know become null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_rollouts(folder: Path, shown: str) -> list[RolloutRow]:
    """Read every row of a rollouts artifact, in the order of its files; messages name it ``shown``.

    Rows without a sampled token, as of an episode that could not begin, are left out.

    Raises:
        RecipeError: RC717, the artifact has no rows, or one that ``write_rows`` does not write.
    """
    files = sorted(folder.glob("*.jsonl")) if folder.is_dir() else []
    if not files:
        raise RecipeError(errors.broken_rollouts(shown, 0, "there are no rows"))
    return [row for path in files for row in _rows(path, f"{shown}/{path.name}")]


def _rows(path: Path, name: str) -> Iterator[RolloutRow]:
    def broken(line: int, problem: str, _column: int = 1) -> Diagnostic:
        return errors.broken_rollouts(name, line, problem)

    for line, row in read_objects(path.read_bytes().split(b"\n"), broken):
        try:
            if row["ids"] or row["text"]:
                yield _read(row, name, line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
            raise RecipeError(broken(line, problem)) from None


def token_ids(row: Mapping[str, Any], name: str) -> list[int]:
    """Return the token ids that a row has under ``name``.

    Raises:
        ValueError: they are missing, or are not token ids.
    """
    ids = row.get(name)
    if not isinstance(ids, list) or not all(isinstance(one, int) and 0 <= one < LARGEST_ID for one in ids):
        raise ValueError(f"it has no `{name}`: a list of token ids")
    return ids


def trained_tokens(row: Mapping[str, Any], length: int) -> tuple[bool, ...]:
    """Return which of the ``length`` sampled tokens of a row are trained: all where the row does not state it.

    Raises:
        ValueError: the row states it for another number of tokens.
    """
    trained = row.get("trained") or [1] * length
    if not isinstance(trained, list) or len(trained) != length:
        raise ValueError("`trained` and `ids` are of different lengths")
    return tuple(map(bool, trained))


def _read(row: Mapping[str, Any], file: str, line: int) -> RolloutRow:
    ids, prompt_ids = tuple(token_ids(row, "ids")), tuple(token_ids(row, "prompt_ids"))
    if not ids or not prompt_ids:
        raise ValueError("`ids` and `prompt_ids` must be token ids")
    reward = row["reward"]
    if reward is not None and row.get("score") is not None:
        reward = row["score"]
    return RolloutRow(
        step=int(row["step"]),
        prompt_id=int(row["prompt_id"]),
        prompt=row["prompt"],
        prompt_ids=prompt_ids,
        ids=ids,
        trained=trained_tokens(row, len(ids)),
        text=str(row["text"]),
        reward=math.nan if reward is None else float(reward),
        columns=dict(row["columns"]),
        file=file,
        line=line,
        episode=int(row.get("episode_id", -1)),
        images=tuple((str(image["path"]), str(image["digest"])) for image in row.get("images", ())),
    )

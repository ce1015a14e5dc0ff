"""Recorded rows, one JSON object a line, written by a user or by a run."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recipec.diagnostics.errors import credit as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.jsonl import read_objects
from recipec.runtime.batch import pad_rows
from recipec.runtime.data.scored_rows import trained_tokens

STDIN = "-"
KEPT = frozenset({
    "by_prompt_R", "prompt_id_R", "by_tree_R", "episode_id_R", "by_episode_R", "step_R", "action_valid_R", "error_R",
    "state_R", "attend_RT", "trained_RT",
})  # fmt: skip
"""Columns of a sampler that recorded rows can have."""
_LARGEST = 1e30
"""Largest reward: advantages are computed from it in 32 bits."""
_IDS = {"by_prompt_R": "prompt_id", "by_tree_R": "tree_id", "by_episode_R": "episode_id", "state_R": "state"}
"""The column of the file for each column of the sampler."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row, and its place.

    Example: ``Recorded({"prompt_id": 3, "reward": 1}, 1.0, 0, True, None, None, "rows.jsonl", 1)``.
    """

    fields: Mapping[str, Any]
    reward: float
    """NaN where the row could not be scored."""
    step: int | None
    """Number of the step in its episode."""
    action_valid: bool | None
    trained: tuple[bool, ...] | None
    """Which tokens of its response the policy wrote."""
    batch: int | None
    """The training step of a row that a run wrote."""
    file: str
    line: int

    def id_of(self, name: str) -> Any:
        """Return the id ``name``; runs write ``episode_id`` as ``episode``."""
        return self.fields.get(name, self.fields.get("episode") if name == "episode_id" else None)


def read_recorded(path: Path) -> list[Recorded]:
    """Read rows from a JSONL file, a folder of them, or standard input (``-``).

    Files of evaluations in a folder (``eval-*``) are left out: their rows have other prompts and get no credit.

    Raises:
        RecipeError: RC797.
    """
    rows = [row for name, data in _texts(path) for row in _rows(name, data)]
    if not rows:
        raise RecipeError(errors.no_recorded_rows(str(path)))
    return rows


def _texts(path: Path) -> Iterator[tuple[str, bytes]]:
    if str(path) == STDIN:
        yield "<stdin>", sys.stdin.buffer.read()
        return
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.glob("*.jsonl") if not file.name.startswith("eval-"))
    for file in files:
        try:
            yield str(file), file.read_bytes()
        except OSError as error:
            problem = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
            raise RecipeError(errors.bad_row(str(file), 0, problem)) from None


def _rows(name: str, data: bytes) -> Iterator[Recorded]:
    def broken(line: int, problem: str, _column: int = 1) -> Diagnostic:
        return errors.bad_row(name, line, problem)

    for line, fields in read_objects(data.split(b"\n"), broken, parse_float=_float, object_pairs_hook=_object):
        try:
            yield _row(fields, name, line)
        except ValueError as error:
            raise RecipeError(broken(line, str(error))) from None


def _float(digits: str) -> float:
    """Return a finite number."""
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"`{digits[:40]}` does not fit into 64 bits")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a mapping with different keys: of two equal keys one would be ignored silently."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {_shown(twice)} is there twice")
    return fields


def _row(fields: Mapping[str, Any], name: str, line: int) -> Recorded:
    is_rollout = "episode_step" in fields or {"ids", "prompt_ids", "text"} <= fields.keys()
    step = fields.get("episode_step" if is_rollout else "step")
    valid = fields.get("action_valid")
    if "reward" not in fields:
        raise ValueError("it has no `reward`")
    if step is not None and not _whole(step):
        raise ValueError(f"its step is {_shown(step)}, not a whole number of 0 or more")
    if valid is not None and valid not in (True, False):
        raise ValueError(f"`action_valid` is {_shown(valid)}, not true or false")
    for key in ("prompt_id", "tree_id", "episode_id", "episode"):
        if fields.get(key) is not None and (
            isinstance(fields[key], bool) or not isinstance(fields[key], str | int | float)
        ):
            raise ValueError(f"`{key}` is {_shown(fields[key])}, not text or a number")
    return Recorded(
        fields=fields,
        reward=_reward(fields["reward"]),
        step=None if step is None else int(step),
        action_valid=None if valid is None else bool(valid),
        trained=_trained(fields),
        batch=int(fields["step"]) if is_rollout and _whole(fields.get("step")) else None,
        file=name,
        line=line,
    )


def _whole(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value == int(value) and 0 <= value < 2**62


def _reward(value: Any) -> float:
    """Return a reward; ``null`` is NaN, for a row that could not be scored."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"`reward` is {_shown(value)}, not a finite number")  # noqa: TRY004 - reported as bad data
    if abs(value) > _LARGEST:
        raise ValueError(f"`reward` is {_shown(value)}, beyond {_LARGEST:g}, the most that 32 bits can express")
    return float(value)


def _shown(value: Any) -> str:
    return f"`{json.dumps(value, ensure_ascii=False)[:40]}`"


def _trained(fields: Mapping[str, Any]) -> tuple[bool, ...] | None:
    if "response_len" in fields:
        length = fields["response_len"]
        if not _whole(length) or length > 2**24:
            raise ValueError(f"`response_len` is {_shown(length)}, not a number of tokens")
        return (True,) * int(length)
    if isinstance(fields.get("ids"), list):
        return trained_tokens(fields, len(fields["ids"]))
    return None


def need(rows: Sequence[Recorded], reads: Collection[str], *, stepwise: bool, penalised: bool) -> None:
    """Check that every row has the columns that the recipe needs; other columns have defaults.

    A row that is a whole trajectory and has no episode id is an episode by itself.

    Raises:
        RecipeError: RC799 naming the column and the row; RC797, two copies of a step disagree.
    """
    ids_read = [name for signal, name in _IDS.items() if signal in reads]
    if stepwise and "episode_id_R" in reads and "episode_id" not in ids_read:
        ids_read.append("episode_id")
    for row in rows:
        lacks = [name for name in ids_read if row.id_of(name) is None]
        if stepwise and "step_R" in reads and row.step is None:
            lacks.append("step")
        if penalised and row.action_valid is None:
            lacks.append("action_valid")
        if "attend_RT" in reads and row.trained is None:
            lacks.append("response_len")
        if lacks and not (lacks == ["state"] and math.isnan(row.reward)):
            raise RecipeError(errors.column_missing(row.file, row.line, lacks[0]))
    if "step_R" in reads:
        _agree(rows)


def _agree(rows: Sequence[Recorded]) -> None:
    first: dict[Any, Recorded] = {}
    for place, row in enumerate(rows):
        earlier = first.setdefault((_episode(row, place), row.step or 0), row)
        if earlier.reward != row.reward and not (math.isnan(earlier.reward) and math.isnan(row.reward)):
            where = f"line {earlier.line}" + (f" of {earlier.file}" if earlier.file != row.file else "")
            problem = f"it repeats the episode and the step of {where} with another reward"
            raise RecipeError(errors.bad_row(row.file, row.line, problem))


def _episode(row: Recorded, place: int) -> Any:
    """Return the key of the row's episode within its prompt; a row without one is an episode by itself."""
    episode = row.id_of("episode_id")
    return (place,) if episode is None else (row.id_of("prompt_id"), episode)


def columns_of(rows: Sequence[Recorded], reads: Collection[str]) -> dict[str, Any]:
    """Return the columns of a sampler; ids are numbered in the order of their first rows."""
    prompts = [row.id_of("prompt_id") for row in rows]
    episodes = _numbered([_episode(row, place) for place, row in enumerate(rows)])
    by_prompt_R = _numbered(prompts)
    columns: dict[str, Any] = {
        "by_prompt_R": by_prompt_R,
        "prompt_id_R": by_prompt_R,
        "by_tree_R": _numbered([(row.id_of("prompt_id"), row.id_of("tree_id")) for row in rows]),
        "episode_id_R": episodes,
        "by_episode_R": episodes,
        "step_R": torch.tensor([row.step or 0 for row in rows], dtype=torch.int64),
        "action_valid_R": torch.tensor([row.action_valid is not False for row in rows]),
        "error_R": torch.zeros(len(rows), dtype=torch.bool),
        "state_R": [row.fields.get("state") for row in rows],
    }
    if "attend_RT" in reads:
        written = [row.trained or () for row in rows]
        columns["trained_RT"] = pad_rows(written, torch.bool)
        columns["attend_RT"] = pad_rows([(True,) * len(tokens) for tokens in written], torch.bool)
    return columns


def _numbered(ids: Sequence[Any]) -> Tensor:
    numbers: dict[Any, int] = {}
    return torch.tensor([numbers.setdefault(one, len(numbers)) for one in ids], dtype=torch.int64)

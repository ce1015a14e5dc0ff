"""From finished episodes to rows: whole trajectories, or one row for each turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from recipec.runtime.protocols import RolloutEngine
from recipec.runtime.rollout.engine import Completion
from recipec.runtime.rollout.episodes import Node

if TYPE_CHECKING:
    from recipec.runtime.batch import Task

BROKEN = "its prompt does not go on from the turn before, as rows of whole trajectories need"


@dataclass(frozen=True, slots=True)
class _Row:
    """Ids of a row, and where in it the policy's turns stand: start, turn, number of the turn from 1."""

    ids: tuple[int, ...]
    turns: Sequence[tuple[int, Node, int]]
    leaf: int
    text: str
    transcript: str
    step: int = 0
    state: Any = None


def rows_from(
    prompt_P: Sequence[Task],
    leaves: Sequence[Node],
    by_prompt: Sequence[int],
    rows: Literal["trajectory", "step"],
    first_episode: int = 0,
) -> dict[str, Any]:
    """Lay episodes out as rows, leaf by leaf and, of one leaf, in the order of time.

    ``trajectory``: one row a leaf, from the root's context to the last turn; observations are in
    between and are not trained, and its answer to the last turn is left out.  Each context must begin with the one
    before and what was kept of the turn: an episode that breaks this is marked as one in error, at its leaf, and its
    row ends before the break.

    ``step``: one row for each turn of each leaf: the context, not trained, and the turn.  A turn on the way to several
    leaves has a row for each of them, as part of their episodes.

    Args:
        prompt_P: The batch's tasks.
        leaves: Ends of the episodes.
        by_prompt: Index of each leaf's task in ``prompt_P``.
        rows: What a row is.
        first_episode: Number of the first leaf's episode; the others count on.

    Returns:
        Every column that a sampler provides, without ``by_tree_R``.
    """
    laid: list[_Row] = []
    appends: dict[int, bool] = {}
    for number, leaf in enumerate(leaves):
        start = prompt_P[by_prompt[number]].prompt_ids
        laid += _steps(number, leaf, start) if rows == "step" else [_trajectory(number, leaf, start, appends)]
    errors = [leaf.position.error for leaf in leaves]
    of_leaf = np.array([row.leaf for row in laid], dtype=np.int64)
    prompt = np.array([by_prompt[i] for i in of_leaf], dtype=np.int64)
    ids = np.array([task.id for task in prompt_P], dtype=np.int64)
    columns: dict[str, Any] = {
        **_tokens(laid),
        "text_R": [row.text for row in laid],
        "transcript_R": [row.transcript for row in laid],
        "by_prompt_R": torch.from_numpy(prompt),
        "prompt_id_R": torch.from_numpy(ids[prompt]),
        "episode_id_R": torch.from_numpy(of_leaf + first_episode),
        "step_R": torch.tensor([row.step for row in laid], dtype=torch.int64),
        "env_reward_R": torch.tensor(
            [sum(turn.position.reward for _, turn, _ in row.turns) for row in laid], dtype=torch.float64
        ),
        "action_valid_R": torch.tensor(
            [all(turn.position.valid for _, turn, _ in row.turns) for row in laid], dtype=torch.bool
        ),
        "error_R": torch.tensor([errors[i] is not None for i in of_leaf], dtype=torch.bool),
        "error_text_R": [errors[i] or "" for i in of_leaf],
        "truncated_R": torch.tensor([leaves[i].position.truncated for i in of_leaf], dtype=torch.bool),
    }
    if rows == "step":
        columns |= {"state_R": [row.state for row in laid], "by_episode_R": columns["episode_id_R"].clone()}
    return columns


def _context(turn: Node, start: tuple[int, ...]) -> tuple[int, ...]:
    """Return what the policy read before a turn; an episode that could not begin has its task's prompt, or one token.

    A row without tokens would have nothing to attend to.
    """
    assert turn.parent is not None
    return turn.parent.position.context_ids or start or (0,)


def _transcripts(path: Sequence[Node]) -> list[str]:
    """Return the episode's text up to the end of each turn."""
    before = accumulate((turn.text + turn.position.observation for turn in path[:-1]), initial="")
    return [text + turn.text for text, turn in zip(before, path, strict=True)]


def _steps(number: int, leaf: Node, start: tuple[int, ...]) -> list[_Row]:
    path = leaf.path()
    rows = []
    for step, (turn, transcript) in enumerate(zip(path, _transcripts(path), strict=True)):
        context = _context(turn, start)
        assert turn.parent is not None
        turns = ((len(context), turn, step + 1),)
        state = turn.parent.position.state
        rows.append(_Row(context + turn.ids, turns, number, turn.text, transcript, step, state))
    return rows


def _trajectory(number: int, leaf: Node, start: tuple[int, ...], appends: dict[int, bool]) -> _Row:
    path = leaf.path()
    turn_count = next((i + 1 for i, turn in enumerate(path[:-1]) if not _goes_on(turn, appends)), len(path))
    if turn_count < len(path) and leaf.position.error is None:
        leaf.position = replace(leaf.position, error=BROKEN)
    path = path[:turn_count]
    last = _context(path[-1], start)
    turns = [(len(_context(turn, start)), turn, i) for i, turn in enumerate(path, 1)]
    return _Row(last + path[-1].ids, turns, number, "".join(turn.text for turn in path), _transcripts(path)[-1])


def _goes_on(turn: Node, known: dict[int, bool]) -> bool:
    """Whether the context after a turn begins with the one before and the kept tokens; cached for shared turns."""
    if id(turn) not in known:
        assert turn.parent is not None
        before, after = turn.parent.position.context_ids, turn.position.context_ids
        end = len(before) + len(turn.ids)
        known[id(turn)] = after[: len(before)] == before and after[len(before) : end] == turn.ids
    return known[id(turn)]


def _tokens(laid: Sequence[_Row]) -> Mapping[str, torch.Tensor]:
    """Pad rows on the right and mark in them what the policy wrote."""
    length_R = np.array([len(row.ids) for row in laid], dtype=np.int64)
    shape = (len(laid), int(length_R.max(initial=0)))
    tokens_RT = np.zeros(shape, dtype=np.int64)
    turn_RT = np.zeros(shape, dtype=np.int64)
    logprob_RT = np.zeros(shape, dtype=np.float32)
    for i, row in enumerate(laid):
        tokens_RT[i, : len(row.ids)] = row.ids
        for start, turn, number in row.turns:
            end = start + len(turn.ids)
            turn_RT[i, start:end] = number
            logprob_RT[i, start:end] = turn.logprob
    return {
        "tokens_RT": torch.from_numpy(tokens_RT),
        "attend_RT": torch.from_numpy(np.arange(shape[1])[None] < length_R[:, None]),
        "trained_RT": torch.from_numpy(turn_RT > 0),
        "turn_RT": torch.from_numpy(turn_RT),
        "sampler_logprob_RT": torch.from_numpy(logprob_RT),
    }


def versions_of(columns: Mapping[str, Any], engine: RolloutEngine) -> dict[str, torch.Tensor]:
    """Return ``policy_version_R``: the weights that the engine samples from, for each row of ``columns``."""
    return {"policy_version_R": torch.full_like(columns["prompt_id_R"], engine.version)}


def sampled_columns(rows: Sequence[tuple[tuple[int, ...], Completion]]) -> dict[str, torch.Tensor]:
    """Pad prompt and completion to the right; what the policy wrote is trained, in turn 1, and nothing else."""
    width = max((len(prompt) + len(completion.ids) for prompt, completion in rows), default=0)
    tokens_RT = np.zeros((len(rows), width), dtype=np.int64)
    logprob_RT = np.zeros((len(rows), width), dtype=np.float32)
    for i, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion.ids)
        tokens_RT[i, :start], tokens_RT[i, start:end] = prompt, completion.ids
        logprob_RT[i, start:end] = completion.logprob
    column_T = np.arange(width)[None]
    start_R1 = np.array([len(prompt) for prompt, _ in rows], dtype=np.int64)[:, None]
    end_R1 = np.array([len(prompt) + len(c.ids) for prompt, c in rows], dtype=np.int64)[:, None]
    attend_RT = column_T < end_R1
    trained_RT = attend_RT & (column_T >= start_R1)
    for i, (prompt, completion) in enumerate(rows):
        first, last = completion.given
        trained_RT[i, len(prompt) + first : len(prompt) + last] = False
    return {
        "tokens_RT": torch.from_numpy(tokens_RT),
        "attend_RT": torch.from_numpy(attend_RT),
        "trained_RT": torch.from_numpy(trained_RT),
        "turn_RT": torch.from_numpy(trained_RT.astype(np.int64)),
        "sampler_logprob_RT": torch.from_numpy(logprob_RT),
    }

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

_Drawn = tuple[int, int, Sequence[float], int]
"""Tokens that the policy drew: from one place to before another, their log-probabilities, the turn's number from 1."""
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

    def drawn(self) -> list[_Drawn]:
        return [(start, start + len(turn.ids), turn.logprob, number) for start, turn, number in self.turns]


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
        **_padded([(row.ids, row.drawn()) for row in laid]),
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


def _padded(rows: Sequence[tuple[Sequence[int], Sequence[_Drawn]]]) -> dict[str, torch.Tensor]:
    """Pad rows on the right and mark in them what the policy drew, which alone is trained."""
    length_R = np.array([len(ids) for ids, _ in rows], dtype=np.int64)
    shape = (len(rows), int(length_R.max(initial=0)))
    tokens_RT = np.zeros(shape, dtype=np.int64)
    turn_RT = np.zeros(shape, dtype=np.int64)
    logprob_RT = np.zeros(shape, dtype=np.float32)
    for i, (ids, drawn) in enumerate(rows):
        tokens_RT[i, : len(ids)] = ids
        for start, end, logprob, turn in drawn:
            turn_RT[i, start:end] = turn
            logprob_RT[i, start:end] = logprob
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
    """Pad prompts and completions on the right; what the policy drew of a completion is turn 1."""
    return _padded([((*prompt, *completion.ids), _drawn(len(prompt), completion)) for prompt, completion in rows])


def _drawn(begin: int, completion: Completion) -> list[_Drawn]:
    """Return the two parts of a completion around the tokens that were put into it."""
    (first, last), logprob = completion.given, completion.logprob
    end = begin + len(completion.ids)
    return [(begin, begin + first, logprob[:first], 1), (begin + last, end, logprob[last:], 1)]

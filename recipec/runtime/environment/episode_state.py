"""The state of an episode, as an immutable value.

A turn returns a new state.  An episode can therefore continue from any earlier state, as tree sampling requires, and a
game that a worker keeps running is only a cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recipec.runtime.batch import Task

TIMEOUT = "timeout"
"""Prefix of the error of an episode that timed out."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The output of the policy in one turn: ids as sampled, and their text without control tokens.

    Example: ``Turn((17, 10, 2), "go east", ended=True)``.
    """

    ids: tuple[int, ...]
    text: str
    ended: bool = True
    """Whether the turn ended by itself instead of at the length limit."""


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """The state of an episode after some turns, with the result of the last one.

    Example: ``EpisodeState(task, context_ids=task.prompt_ids, state="kitchen")`` before the first turn.
    """

    task: Task
    context_ids: tuple[int, ...]
    """Everything the policy reads before its next turn.  Where turns append, it begins with the previous context and
    the ids that were kept of the turn."""
    turns: int = 0
    """Number of turns taken."""
    state: Any = None
    """State key before the next turn: text, a number, or lists and mappings of them."""
    ended: bool = False
    """The episode is over: terminated, truncated or failed."""
    truncated: bool = False
    """A limit ended the episode, not the policy or the environment."""
    error: str | None = None
    """Why the episode failed, where the policy did not cause it; such an episode is left out of every baseline."""
    kept: int = 0
    """Number of ids kept of the last turn; those after them are cut off and not trained."""
    reward: float = 0.0
    """Reward of the last turn."""
    valid: bool = True
    """Whether the environment understood the last action."""
    calls: int = 0
    """Number of tool calls in the last turn."""
    failures: int = 0
    """Number of these calls that failed because of the tool, so that the policy reads an error."""
    observation: str = ""
    """Answer of the environment to the last turn, as text."""
    notes: Any = None
    """Private data of the environment, such as the actions so far."""

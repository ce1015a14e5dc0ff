"""Where an episode stands, as a value.

A position is never changed: a turn taken from it makes another one.  So an episode can be gone on from at any
earlier position, as trees need, and what an engine keeps running behind it is a cache that may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recipec.runtime.batch import Task


@dataclass(frozen=True, slots=True)
class Turn:
    """What the policy wrote in one turn: ids as sampled, and the same as text without control tokens.

    Example: ``Turn((17, 10, 2), "go east", ended=True)``.
    """

    ids: tuple[int, ...]
    text: str
    ended: bool = True
    """It ended by itself and was not cut at the length limit."""


@dataclass(frozen=True, slots=True)
class EpisodeState:
    """Where an episode stands after some turns, and what the last of them brought.

    Example: ``EpisodeState(task, context_ids=task.prompt_ids, state="kitchen")``: the beginning.
    """

    task: Task
    context_ids: tuple[int, ...]
    """Everything the policy reads before its next turn.  Where turns append, it begins with the context before,
    followed by the ids that were kept of the turn."""
    turns: int = 0
    """Turns taken."""
    state: Any = None
    """State key before the next turn: text, a number, or lists and mappings of them."""
    ended: bool = False
    """No further turn is taken: terminated, truncated or in error."""
    truncated: bool = False
    """A limit ended the episode, not the policy or the world."""
    error: str | None = None
    """Why the episode failed for a reason that is not the policy's; such an episode is out of every baseline."""
    kept: int = 0
    """How many of the last turn's ids count; what came after them was cut off and is not trained."""
    reward: float = 0.0
    """What the last turn earned."""
    valid: bool = True
    """The environment understood the last turn's action."""
    calls: int = 0
    """Tool calls of the last turn."""
    failures: int = 0
    """How many of them failed for a reason that is the tool's, so that the policy read an error instead."""
    observation: str = ""
    """What the environment answered to the last turn, as text."""
    world: Any = None
    """The environment's own notes, such as the actions so far."""

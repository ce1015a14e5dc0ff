"""An answer of a trial with what came of it, for programs and for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TURNS = 6
"""Turns of an episode that are shown."""
_SHOWN = 400
"""Characters of a text in a terminal."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of a trial: what the reward functions and the environment got, and what came of it."""

    prompt: str
    text: str
    """What was answered; the whole episode where there is an environment."""
    columns: Mapping[str, Any]
    rewards: Mapping[str, float | None]
    problem: str = ""
    """Why the episode failed."""
    completion: Any = None
    """The completion as a function with TRL's signature gets it: a text, or messages where the prompt is a chat."""
    turns: Sequence[tuple[str, str]] = ()
    """Of an episode, the prompt and the answer of each turn."""

    def lines(self) -> Iterator[tuple[str, str]]:
        """Yield names and texts, for a terminal."""
        for number, (prompt, text) in enumerate(self.turns[:_TURNS], 1):
            yield f"turn {number}", f"{_shown(prompt)} -> {_shown(text)}"
        if len(self.turns) > _TURNS:
            yield "", f"and {len(self.turns) - _TURNS} more turns"
        if not self.turns:
            yield "prompt", _shown(self.prompt)
            yield "answer", _shown(self.text)
        if not isinstance(self.completion, str) and not self.turns:
            yield "given as", json.dumps(self.completion, ensure_ascii=False)
        yield "columns", _shown(", ".join(f"{name}={value!r}" for name, value in self.columns.items()))
        scores = {name: "none" if value is None else f"{value:.4g}" for name, value in self.rewards.items()}
        yield "rewards", ", ".join(f"{name} {score}" for name, score in scores.items()) or "-"
        if self.problem:
            yield "failed", self.problem


def _shown(text: str) -> str:
    """Keep the ends of a long text, on one line."""
    short = text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]} … {text[-_SHOWN // 2 :]}"
    return short.replace("\n", "\\n")

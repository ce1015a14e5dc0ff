"""What trial episodes of the user's environment show: failures, draws without a seed, actions, templates."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recipec.component import Component
from recipec.diagnostics.errors import environment as errors_of_environments, trial as errors
from recipec.diagnostics.model import Diagnostic
from recipec.package_files import named_file
from recipec.reading.user_code import words_of
from recipec.runtime.data.templates import read_template
from recipec.runtime.protocols import Policy
from recipec.runtime.user_code import place_in
from recipec.spec.environment import Environment

Rows = Mapping[str, Any]
_RETURNED = re.compile(r": `\w+`: ")
"""In a reason: a method of the user's that returned what is not an answer, which no other action mends."""


def known_actions(spec: Component | None, use: Sequence[Path]) -> list[str]:
    """Return texts that the user's environment compares actions with, which may be actions."""
    named = spec.user_names() if spec is not None and spec.user_code == "class" else ()
    return [word for name in named for word in words_of(use, name)]


def long_actions(policy: Policy, words: Sequence[str], limit: int | None, key: str) -> Iterator[Diagnostic]:
    """Yield RC755 for the first action that has more tokens than a turn may have."""
    for word in words:
        length = len(policy.encode(word))
        if limit is not None and length > limit:
            yield errors.action_over_length(word, length, limit, f"{key}.sampler.max_turn_length")
            return


def unseen(spec: Environment, root: Path, key: str) -> Iterator[Diagnostic]:
    """Yield RC758 for a template of every turn that does not write what the environment says."""
    name = spec.prompt_template()
    if name is None or spec.window() is None:
        return
    text = read_template(named_file(root, name), name)
    if not any(word in text for word in ("observation", "history")):
        yield errors.observation_unseen(name, f"{key}.environment.template")


def failures(played: Sequence[Rows], use: Sequence[Path], root: Path, key: str) -> Iterator[Diagnostic]:
    """Yield RC922 where all episodes failed or a method returned what is not an answer, RC923 where others failed."""
    pairs = [pair for one in played for pair in zip(one["text_R"], one["error_text_R"], strict=True)]
    failed = [problem for _, problem in pairs if problem]
    if failed:
        of = sum(len(set(one["episode_id_R"].tolist())) for one in played)
        action = next(action for action, problem in pairs if problem)
        failed.sort(key=lambda problem: _RETURNED.search(problem) is None)
        about = errors.some_episodes_fail(len(failed), of, failed, action)
        if len(failed) >= of or _RETURNED.search(failed[0]):
            about = errors.episodes_fail(len(failed), of, failed)
        yield replace(about, spans=place_in(failed[0], use, root), path=f"{key}.{about.path or 'environment'}")


def differing(policy: Policy, rows: Rows, again: Rows, key: str) -> Iterator[Diagnostic]:
    """Yield RC963 where the first episodes of ``rows`` and ``again`` differ, which have the same task and actions.

    Episodes that failed have a message of their own.
    """
    if rows["error_text_R"][0] or again["error_text_R"][0]:
        return
    for first, second in zip(_turns(rows), _turns(again), strict=False):
        if first != second:
            one, other = (policy.decode(ids) for ids, _ in (first, second))
            rewards = (f"the reward {first[1]:g}", f"the reward {second[1]:g}")
            shown = (repr(one[-60:]), repr(other[-60:])) if one != other else rewards
            yield errors_of_environments.episodes_differ(*shown, f"{key}.environment")
            return


def _turns(rows: Rows) -> Iterator[tuple[list[int], float]]:
    """Yield tokens and reward of each row of the first episode."""
    episodes = rows["episode_id_R"].tolist()
    for row, episode in enumerate(episodes):
        if episode == episodes[0]:
            yield rows["tokens_RT"][row][rows["attend_RT"][row]].tolist(), float(rows["env_reward_R"][row])

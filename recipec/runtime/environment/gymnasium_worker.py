"""Worker of gymnasium environments: those of the package itself, shown as text."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium import spaces

from recipec.diagnostics.phrases import nearest
from recipec.runtime.environment.worker_main import live, plain

_SIZE = 1000
"""Number of tasks of a split, where the data gives none."""


class Game:
    """One environment with its observations and actions as text.

    Example: ``Game(gymnasium.make("FrozenLake-v1"), ("left", "down", "right", "up"))``.
    """

    def __init__(self, inner: Any, names: tuple[str, ...]) -> None:
        space = inner.action_space
        if not isinstance(space, spaces.Discrete):
            raise TypeError(f"its actions are {space}; only a Discrete space can be chosen from by text")
        if names and len(names) != space.n:
            raise ValueError(f"it has {space.n} actions, and `actions` names {len(names)}")
        self.inner = inner
        self.first = int(space.start)
        self.names = names or tuple(str(self.first + i) for i in range(int(space.n)))
        self._seen: dict[str, Any] = {}

    def reset(self, task: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Begin an episode by its seed; a task may have ``options`` for the reset of the environment."""
        observation, info = self.inner.reset(seed=seed, options=task.get("options"))
        self._seen = self._shown(observation, info)
        return self._seen

    def step(self, action: str) -> dict[str, Any]:
        """Take an action by its name or number; another text changes nothing and gets a notice."""
        number = self._number(action)
        if number is None:
            text = f"`{action[:200]}` is no action here.\n\n{self._seen['observation']}"
            return {**self._seen, "observation": text, "valid": False}
        observation, reward, terminated, truncated, info = self.inner.step(number)
        self._seen = self._shown(observation, info)
        ended = {"terminated": bool(terminated), "truncated": bool(truncated)}
        return {**self._seen, "reward": float(reward), **ended}

    def _number(self, action: str) -> int | None:
        chosen = action.strip().casefold()
        names = [name.strip().casefold() for name in self.names]
        numbers = [str(self.first + i) for i in range(len(names))]
        spellings = names if chosen in names else numbers  # a name may be the number of another action
        return self.first + spellings.index(chosen) if chosen in spellings else None

    def _shown(self, observation: Any, info: Mapping[str, Any]) -> dict[str, Any]:
        mask = info.get("action_mask")
        allowed = [name for i, name in enumerate(self.names) if mask is None or mask[i]]
        return {"observation": shown(observation), "state": plain(observation), "actions": allowed}


def shown(observation: Any) -> str:
    r"""Return an observation as text; equal values have equal texts.

    >>> shown({"walls": (True, False), "at": 3})
    'walls: 1, 0\nat: 3'
    """
    if isinstance(observation, Mapping):
        return "\n".join(f"{key}: {shown(value)}" for key, value in observation.items())
    if isinstance(observation, str):
        return observation
    return _listed(plain(observation), top=True)


def _listed(value: Any, *, top: bool = False) -> str:
    if isinstance(value, list):
        text = ", ".join(_listed(v) for v in value)
        return text if top else f"[{text}]"
    return str(int(value)) if isinstance(value, bool) else f"{value:.6g}" if isinstance(value, float) else str(value)


def serve(argument: Mapping[str, Any]) -> Callable[[Any], Any]:
    """Handler of :mod:`recipec.host.worker_pool`: environments of ``{id, options, actions}``.

    Raises:
        LookupError: gymnasium has no such environment; the text is the nearest name, or empty.
    """
    warnings.simplefilter("ignore")
    name = argument["id"]
    # `module:Name` would import the module; environments of other packages are not used
    own = [key for key, entry in gymnasium.registry.items() if str(entry.entry_point).startswith("gymnasium.envs.")]
    if name not in own:
        raise LookupError(next(iter(nearest(name, own)), ""))

    def make() -> Game:
        inner = gymnasium.make(name, disable_env_checker=True, **argument["options"])
        return Game(inner, tuple(argument["actions"]))

    game = make()  # imports what it needs now, and reports wrong options
    game.reset({}, 0)
    game.step(game.names[0])
    return live(make, tasks)


def tasks(split: str, size: int | None, seed: int) -> list[Mapping[str, Any]]:
    """Return the seeds of a split, which no other split has.

    >>> tasks("train", 2, 0) == tasks("train", 3, 0)[:2], tasks("test", 1, 0) == tasks("train", 1, 0)
    (True, False)
    """
    digests = (hashlib.sha256(f"{split}\x1f{seed}\x1f{i}".encode()).digest() for i in range(size or _SIZE))
    return [{"seed": int.from_bytes(digest[:4], "big") >> 1} for digest in digests]

"""The worker side of environments: keeps games running, takes actions, and answers in one form.

It runs only in the children of ``worker_pool``, without torch.  A game is found by the actions it has taken.  Where it
is missing, the parent replays it step by step, so that each step has its own deadline.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

MISSING = "missing"
LONGEST = 64 << 10
"""Most characters of an observation, of a state, and of all actions together."""
MOST_ACTIONS = 4096
_KINDS: Mapping[str, tuple[type, ...]] = {
    "observation": (str,),
    "goal": (str,),
    "reward": (int, float),
    "terminated": (bool,),
    "truncated": (bool,),
    "valid": (bool,),
    "calls": (int,),
    "actions": (list, tuple),
}


_OTHERS = {"obs": "observation", "done": "terminated", "score": "reward", "available_actions": "actions"}
"""Keys of other tools."""


class BadObservation(ValueError):  # noqa: N818 - it names an answer
    """An answer of a game has the wrong type, is not finite, or is too large."""


class GameError(Exception):
    """A game failed; the text is the whole message, with the place in the user's file."""


class WorkerGame(Protocol):
    """A running game of a worker.

    Both methods return the observation as text, or a mapping with ``observation`` and, as needed, ``reward``,
    ``terminated``, ``truncated``, ``actions`` (the available ones), ``state`` (its key), ``valid`` (whether it
    understood the action), ``goal`` (the goal of the task; from ``reset``), ``calls``.
    """

    def reset(self, task: Mapping[str, Any], seed: int) -> Any:
        """Begin an episode."""

    def step(self, action: str) -> Any:
        """Take an action."""


def live(
    make: Callable[[], WorkerGame],
    tasks: Callable[[str, int | None, int], list[Mapping[str, Any]]] | None = None,
    keep: int = 128,
) -> Callable[[Any], Any]:
    """Return the function that answers requests, with games that ``make`` builds.

    A request ``{task, seed, actions, label}`` without actions begins an episode.  Otherwise it takes the last action in
    a game that has taken the others, and the answer is ``MISSING`` where no game has.
    The answer to ``{tasks: [split, size, seed]}`` is a list of mappings, to ``{ready: true}`` null.
    At most ``keep`` games are kept.
    """
    kept = _Kept(keep)

    def answer(request: Mapping[str, Any]) -> Any:
        if "ready" in request:
            return None
        if "tasks" in request:
            if tasks is None:
                raise LookupError("it has no tasks of its own")
            return tasks(*request["tasks"])
        past, actions = [request["task"], request["seed"], request["label"]], request["actions"]
        game = kept.take(_key(past, actions[:-1])) if actions else make()
        if game is None:
            return MISSING
        result = checked(game.step(actions[-1]) if actions else game.reset(request["task"], request["seed"]))
        if not result["terminated"]:
            kept.put(_key(past, actions), game)
        return result

    return answer


class _Kept:
    """The most recently used games by their past; several may have the same."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.games: OrderedDict[str, list[WorkerGame]] = OrderedDict()

    def take(self, key: str) -> WorkerGame | None:
        games = self.games.get(key)
        if not games:
            return None
        game = games.pop()
        if not games:
            del self.games[key]
        return game

    def put(self, key: str, game: WorkerGame) -> None:
        self.games.setdefault(key, []).append(game)
        self.games.move_to_end(key)
        while sum(map(len, self.games.values())) > self.most:
            self.take(next(iter(self.games)))


def _key(past: list[Any], actions: list[str]) -> str:
    return json.dumps([past, actions], sort_keys=True)


def checked(answer: Any) -> dict[str, Any]:
    """Return the answer of a game with every key.

    Raises:
        BadObservation: the answer is not valid.

    >>> checked("a room")["reward"], checked({"observation": "a room", "reward": 1})["reward"]
    (0.0, 1.0)
    """
    if isinstance(answer, str):
        answer = {"observation": answer}
    if not isinstance(answer, Mapping):
        raise BadObservation(f"it answered with {type(answer).__name__}, not with text or a mapping")
    known = (*_KINDS, "state")
    for key in answer:
        if key not in known:
            here = f", which is `{_OTHERS[key]}` here" if key in _OTHERS else ""
            raise BadObservation(
                f"its answer has the unknown key {str(key)[:80]!r}{here}; known are {', '.join(known)}"
            )
    if "observation" not in answer:
        raise BadObservation("its answer has no observation")
    values = {key: _typed(key, plain(value) if key != "state" else value) for key, value in answer.items()}
    actions = [_text(action) for action in values.get("actions") or ()]
    if len(actions) > MOST_ACTIONS or sum(map(len, actions)) > LONGEST:
        raise BadObservation(f"its actions are more than {MOST_ACTIONS}, or longer than {LONGEST} characters")
    return {
        "observation": values["observation"],
        "goal": values.get("goal", ""),
        "reward": float(values.get("reward", 0.0)),
        "terminated": values.get("terminated", False),
        "truncated": values.get("truncated", False),
        "valid": values.get("valid", True),
        "calls": values.get("calls", 1),
        "actions": actions,
        "state": _state(answer.get("state")),
    }


def _typed(key: str, value: Any) -> Any:
    if key == "state" or (key == "actions" and value is None):
        return value
    wrong = not isinstance(value, _KINDS[key]) or (isinstance(value, bool) and bool not in _KINDS[key])
    if wrong:
        raise BadObservation(f"its {key} is {type(value).__name__}, not {_KINDS[key][-1].__name__}")
    if key == "reward" and not math.isfinite(value):
        raise BadObservation(f"its reward is {value}")
    if isinstance(value, str) and len(value) > LONGEST:
        raise BadObservation(f"its {key} is longer than {LONGEST} characters")
    if isinstance(value, str):
        return _text(value)
    if key == "actions" and not all(isinstance(action, str) for action in value):
        raise BadObservation("its actions are not all text")
    return value


def _text(text: str) -> str:
    """Return text that can be encoded, with a question mark for half a surrogate pair."""
    return text.encode("utf-8", "replace").decode()


def _state(state: Any) -> Any:
    try:
        parsed = plain(state)
        text = json.dumps(parsed, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadObservation(f"its state is not text, a number, a list or a mapping: {str(error)[:200]}") from None
    if len(text) > LONGEST:
        raise BadObservation(f"its state is longer than {LONGEST} characters")
    return json.loads(text)


def plain(value: Any) -> Any:
    """Return a value with numpy arrays and scalars in it converted to lists and numbers.

    >>> plain({"a": (1, 2)})
    {'a': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return value.tolist()
    return value

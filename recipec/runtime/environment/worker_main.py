"""The child's side of worlds: it keeps live ones, advances them in place, and answers in one form.

Run only in the children of ``worker_pool``, without torch.  A world is found again by the past it has seen;
one that is not there is not replayed here: the parent does that, a step at a time, so that each keeps its deadline.
"""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol

MISSING = "missing"
LONGEST = 64 << 10
"""Characters of an observation, of a state and of all actions together."""
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


class BadObservation(ValueError):  # noqa: N818 - it names what a world said
    """A world's answer is none: of another type, not finite, or too large."""


class GameError(Exception):
    """A world failed; the text says all there is to say, the place in the user's file included."""


class WorkerGame(Protocol):
    """A world that a child keeps.

    Both verbs return the observation as text, or a mapping with ``observation`` and, as needed, ``reward``,
    ``terminated``, ``truncated``, ``actions`` (those it would accept), ``state`` (its key), ``valid`` (it understood
    the action), ``goal`` (what is to be done; from ``reset``), ``calls``.
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
    """Return the function that answers a child's requests, over worlds that ``make`` builds.

    A request ``{task, seed, actions, label}`` begins an episode where ``actions`` is empty; else it takes the last of
    them in a world that has seen the others, and is answered ``MISSING`` where there is none.
    ``{tasks: [split, size, seed]}`` is answered with a list of mappings, ``{ready: true}`` with null.
    At most ``keep`` worlds live.
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
        world = kept.take(_key(past, actions[:-1])) if actions else make()
        if world is None:
            return MISSING
        made = checked(world.step(actions[-1]) if actions else world.reset(request["task"], request["seed"]))
        if not made["terminated"]:
            kept.put(_key(past, actions), world)
        return made

    return answer


class _Kept:
    """Worlds by their past, those used lately; several may have the same."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.worlds: OrderedDict[str, list[WorkerGame]] = OrderedDict()

    def take(self, key: str) -> WorkerGame | None:
        found = self.worlds.get(key)
        if not found:
            return None
        world = found.pop()
        if not found:
            del self.worlds[key]
        return world

    def put(self, key: str, world: WorkerGame) -> None:
        self.worlds.setdefault(key, []).append(world)
        self.worlds.move_to_end(key)
        while sum(map(len, self.worlds.values())) > self.most:
            self.take(next(iter(self.worlds)))


def _key(past: list[Any], actions: list[str]) -> str:
    return json.dumps([past, actions], sort_keys=True)


def checked(said: Any) -> dict[str, Any]:
    """Return what a world said with every key in its place, or say what is wrong with it.

    Raises:
        Garbage: it is no answer.

    >>> checked("a room")["reward"], checked({"observation": "a room", "reward": 1})["reward"]
    (0.0, 1.0)
    """
    if isinstance(said, str):
        said = {"observation": said}
    if not isinstance(said, Mapping):
        raise BadObservation(f"it answered with {type(said).__name__}, not with text or a mapping")
    known = (*_KINDS, "state")
    for key in said:
        if key not in known:
            raise BadObservation(f"its answer has the unknown key {str(key)[:80]!r}; known are {', '.join(known)}")
    if "observation" not in said:
        raise BadObservation("its answer has no observation")
    values = {key: _typed(key, plain(value) if key != "state" else value) for key, value in said.items()}
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
        "state": _state(said.get("state")),
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
    """Return text that can be encoded: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def _state(state: Any) -> Any:
    try:
        made = plain(state)
        text = json.dumps(made, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadObservation(f"its state is no text, number, list or mapping of them: {str(error)[:200]}") from None
    if len(text) > LONGEST:
        raise BadObservation(f"its state is longer than {LONGEST} characters")
    return json.loads(text)


def plain(value: Any) -> Any:
    """Return numpy's arrays and scalars, wherever they are, as lists and numbers.

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

"""Generate household games from the floor plans, grammar, goals and domain of the ``alfworld`` package.

A game is a function of its name, ``split/seed/index/goal``: it is not stored but generated again in milliseconds.
The places of things are random; rooms, rules and wording are those of ALFWorld (MIT).

References:
    Shridhar et al., `ALFWorld <https://arxiv.org/abs/2010.03768>`_, 2021: the six kinds of tasks and the splits.
    Kolve et al., `AI2-THOR <https://arxiv.org/abs/1712.05474>`_, 2017: the floor plans.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

GOALS = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
SIZES = {"train": 3553, "valid_seen": 140, "valid_unseen": 134}
"""Number of games of each split, as released by ALFWorld."""
_VERSION = 1
"""Part of every random seed; increased when the generator changes."""
_TREATED = {  # goal: state of the thing, receptacle that changes it
    "pick_clean_then_place_in_recep": ("Cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("Heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("Coolable", "Fridge"),
}
_FOR_LAMPS = ("Desk", "SideTable", "Dresser", "Shelf", "DiningTable", "CoffeeTable", "TVStand")
_START = "loc|0|0|0|30"


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing, its kind, and its receptacle."""

    id: str
    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class Household:
    """One random game, before it is written as PDDL.

    Example: ``draw(7, "pick_and_place_simple", Random("7"))``.
    """

    floor: int
    goal: str
    places: Mapping[str, Sequence[float]]
    """Receptacles and the pose from which each is reached: x, y, degrees, horizon."""
    things: tuple[Thing, ...]
    wanted: str
    """Kind of the thing to move."""
    target: str
    """Kind of the receptacle to move it to."""
    lamp: str
    description: str


def make(name: str) -> dict[str, Any]:
    """Generate the game ``split/seed/index/goal``, in the form of a ``.tw-pddl`` file.

    Raises:
        ValueError: the name has another form.
    """
    return _file(household(name))


def household(name: str) -> Household:
    """Draw the household of a game; games without a solution are skipped, so that every name has one.

    Raises:
        ValueError: the name has another form.
    """
    if (wrong := problem(name)) is not None:
        raise ValueError(f"{name!r}: {wrong}")
    split, _, _, goal = name.split("/")
    floors = _floors(split)
    for attempt in range(1000):
        rng = Random(f"alfworld {_VERSION} {name} {attempt}")  # noqa: S311 - a game, not a secret
        drawn = draw(rng.choice(floors), goal, rng)
        if drawn is not None:
            return drawn
    raise AssertionError(f"no floor plan of {split} can hold a game of {goal}")


def problem(name: str) -> str | None:
    """Return what is wrong with the name of a game, or None.

    >>> problem("train/0/17/pick_two_obj_and_place"), problem("test/0/17/pick_two_obj_and_place")
    (None, 'there is no split `test`')
    """
    split, *numbers, goal = name.split("/")
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return "the name of a generated game is split/seed/index/goal"
    if split not in SIZES:
        return f"there is no split `{split}`"
    return None if goal in GOALS else f"there is no goal `{goal}`"


def names(split: str, size: int | None, seed: int, goals: Sequence[str] = ()) -> list[str]:
    """Return the names of the games of a split; the goals alternate.

    >>> names("train", 2, 7, ("pick_two_obj_and_place",))
    ['train/7/0/pick_two_obj_and_place', 'train/7/1/pick_two_obj_and_place']
    """
    goals = goals or GOALS
    return [f"{split}/{seed}/{i}/{goals[i % len(goals)]}" for i in range(size or SIZES[split])]


def draw(floor: int, goal: str, rng: Random) -> Household | None:
    """Draw the task and the places of things on a floor plan; None where the task has no solution."""
    known = _constants()
    places, kinds = _plan(floor)
    rooms = sorted({place_kind(place) for place in places})
    holds = known.VAL_RECEPTACLE_OBJECTS
    movable = [
        kind
        for kind in kinds
        if kind in known.OBJECTS_SET and kind not in known.RECEPTACLES and any(kind in holds[room] for room in rooms)
    ]
    lamps = [kind for kind in kinds if kind in known.VAL_ACTION_OBJECTS["Toggleable"]]
    quality, tool = _TREATED.get(goal, ("", ""))
    lit = goal == "look_at_obj_in_light"
    if (tool and tool not in rooms) or (lit and not lamps):
        return None
    wanted = [k for k in movable if k not in lamps and (not quality or k in known.VAL_ACTION_OBJECTS[quality])]
    pairs = [(kind, room) for kind in wanted for room in rooms if kind in holds[room] and room != tool]
    if not pairs:
        return None
    thing, target = rng.choice(pairs)
    lamp = rng.choice(lamps) if lit else ""
    least = 2 if goal == "pick_two_obj_and_place" else 1
    things = (*_lay(movable, lamps, thing, target, least, places, rng),)
    if sum(t.kind == thing for t in things) < least or (lit and not any(t.kind == lamp for t in things)):
        return None
    words = {"obj": thing.lower(), "recep": target.lower(), "toggle": lamp.lower(), "mrecep": ""}
    description = rng.choice(_goals()[goal]["templates"]).format(**words)
    return Household(floor, goal, places, things, thing, target, lamp, description)


def place_kind(place: str) -> str:
    """Return the kind of a receptacle; the basin of a sink or a bathtub has its own kind.

    >>> place_kind("Sink|-01.90|+00.97|-01.50|SinkBasin"), place_kind("Shelf|+00.10|+00.20|+00.30")
    ('SinkBasin', 'Shelf')
    """
    first, *_, last = place.split("|")
    return last if last in {"SinkBasin", "BathtubBasin"} else first


def _lay(
    kinds: Sequence[str],
    lamps: Sequence[str],
    wanted: str,
    target: str,
    least: int,
    places: Mapping[str, Any],
    rng: Random,
) -> Iterator[Thing]:
    """Place things of each kind where they may be, the thing to move never at its target."""
    known = _constants()
    for kind in kinds:
        count = 1
        if kind == wanted or rng.random() < 0.6:
            count = rng.randint(1, known.MAX_NUM_OF_OBJ_INSTANCES)
        free = [
            place
            for place in places
            if kind in known.VAL_RECEPTACLE_OBJECTS[place_kind(place)]
            and not (kind == wanted and place_kind(place) == target)
        ]
        for _ in range(max(least, count) if kind == wanted else count):
            if free:
                yield Thing(_id(kind, rng), kind, rng.choice(free))
    for kind in lamps:
        free = [place for place in places if place_kind(place) in _FOR_LAMPS]
        if free:
            yield Thing(_id(kind, rng), kind, rng.choice(free))


def _id(kind: str, rng: Random) -> str:
    return f"{kind}|{rng.uniform(-3, 3):+06.2f}|{rng.uniform(0, 2):+06.2f}|{rng.uniform(-3, 3):+06.2f}"


def _file(household: Household) -> dict[str, Any]:
    info = _package()
    grammar = (info / "data" / "alfred.twl2").read_text(encoding="utf-8")
    return {
        "pddl_domain": (info / "data" / "alfred.pddl").read_text(encoding="utf-8"),
        "grammar": grammar.replace("UNKNOWN GOAL", household.description),
        "pddl_problem": _problem(household),
        "solvable": True,
        "task_type": household.goal,
        "floor": household.floor,
    }


def _problem(household: Household) -> str:
    """Write the game in PDDL."""
    poses = {place: _location(pose) for place, pose in household.places.items()}
    rooms = sorted({place_kind(place) for place in household.places})
    kinds = sorted({thing.kind for thing in household.things})
    objects = [
        "agent1 - agent",
        *(f"{_mangled(pose)} - location" for pose in sorted({*poses.values(), _START})),
        *(f"{_mangled(place)} - receptacle" for place in household.places),
        *(f"{_mangled(thing.id)} - object" for thing in household.things),
        *(f"{room}Type - rtype" for room in rooms),
        *(f"{kind}Type - otype" for kind in kinds),
    ]
    facts = [*_facts(household, poses, rooms, kinds), f"(atLocation agent1 {_mangled(_START)})", "(= (total-cost) 0)"]
    goal = _goals()[household.goal]["pddl"].format(
        obj=household.wanted, recep=household.target, toggle=household.lamp, mrecep=""
    )
    listed, init = "\n".join(objects), "\n".join(facts)
    return (
        f"(define (problem plan_{household.floor})\n(:domain alfred)\n(:objects\n{listed}\n)\n"
        f"(:init\n{init}\n)\n{goal.replace('#', '-')}"
    )


def _facts(household: Household, poses: Mapping[str, str], rooms: Sequence[str], kinds: Sequence[str]) -> Iterator[str]:
    known = _constants()
    actions = known.VAL_ACTION_OBJECTS
    for place in household.places:
        yield f"(receptacleType {_mangled(place)} {place_kind(place)}Type)"
        yield f"(receptacleAtLocation {_mangled(place)} {_mangled(poses[place])})"
        if place_kind(place) in known.OPENABLE_CLASS_SET:
            yield f"(openable {_mangled(place)})"
    for room in rooms:
        for kind in kinds:
            if kind in known.VAL_RECEPTACLE_OBJECTS[room]:
                yield f"(canContain {room}Type {kind}Type)"
    for thing in household.things:
        me = _mangled(thing.id)
        yield f"(objectType {me} {thing.kind}Type)"
        yield f"(inReceptacle {me} {_mangled(thing.place)})"
        yield f"(objectAtLocation {me} {_mangled(poses[thing.place])})"
        yield f"(toggleable {me})" if thing.kind in actions["Toggleable"] else f"(pickupable {me})"
        for quality in ("Heatable", "Coolable", "Cleanable", "Sliceable"):
            if thing.kind in actions[quality]:
                yield f"({quality.lower()} {me})"


def _location(pose: Sequence[float]) -> str:
    x, y, degrees, horizon = pose
    return f"loc|{round(x * 4):d}|{round(y * 4):d}|{round(degrees / 90):d}|{horizon:d}"


def _mangled(name: str) -> str:
    for sign, word in (("|", "_bar_"), ("-", "_minus_"), ("+", "_plus_"), (".", "_dot_"), (",", "_comma_")):
        name = name.replace(sign, word)
    return name


def _floors(split: str) -> list[int]:
    """Return the floor plans of a split; those of ``valid_unseen`` are in no other split."""
    known = _constants()
    numbers = known.TEST_SCENE_NUMBERS if split == "valid_unseen" else known.TRAIN_SCENE_NUMBERS
    return [n for n in numbers if (_package() / "gen" / "layouts" / f"FloorPlan{n}-openable.json").is_file()]


@functools.cache
def _plan(floor: int) -> tuple[dict[str, list[float]], list[str]]:
    folder = _package() / "gen" / "layouts"
    places = json.loads((folder / f"FloorPlan{floor}-openable.json").read_text(encoding="utf-8"))
    kinds = json.loads((folder / f"FloorPlan{floor}-objects.json").read_text(encoding="utf-8"))
    usable = _constants().VAL_RECEPTACLE_OBJECTS
    return {place: pose for place, pose in places.items() if place_kind(place) in usable}, kinds


@functools.cache
def _package() -> Path:
    spec = importlib.util.find_spec("alfworld")
    assert spec is not None, "looked for before"
    assert spec.origin is not None
    return Path(spec.origin).parent


def quiet() -> None:
    """Prevent the package from creating a folder in the user's home on import."""
    os.environ.setdefault("ALFWORLD_DATA", str(_package()))


@functools.cache
def _constants() -> ModuleType:
    quiet()
    return importlib.import_module("alfworld.gen.constants")


@functools.cache
def _goals() -> Mapping[str, Any]:
    quiet()
    goals: Mapping[str, Any] = importlib.import_module("alfworld.gen.goal_library").gdict
    return goals

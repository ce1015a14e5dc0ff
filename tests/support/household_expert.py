"""An expert of household games, who knows the places of all things."""

from collections import Counter

from recipec.runtime.environment.alfworld import game_maker as maker
from recipec.runtime.environment.alfworld.game_maker import Household, place_kind

VERBS = {"SinkBasin": "clean", "Microwave": "heat", "Fridge": "cool"}


def walkthrough(name: str) -> list[str]:
    """Commands that win a game."""
    household = maker.household(name)
    named = _names(household)
    plan: list[str] = []
    opened: set[str] = set()

    def go(place: str) -> None:
        plan.append(f"go to {named[place]}")
        if place_kind(place) in maker._constants().OPENABLE_CLASS_SET and place not in opened:
            plan.append(f"open {named[place]}")
            opened.add(place)

    def first(kind: str) -> str:
        return min(place for place in household.places if place_kind(place) == kind)

    _, tool = maker._TREATED.get(household.goal, ("", ""))
    needed = 2 if household.goal == "pick_two_obj_and_place" else 1
    for thing in [t for t in household.things if t.kind == household.wanted][:needed]:
        go(thing.place)
        plan.append(f"take {named[thing.id]} from {named[thing.place]}")
        if tool:
            plan += [f"go to {named[first(tool)]}", f"{VERBS[tool]} {named[thing.id]} with {named[first(tool)]}"]
        if household.lamp:
            lamp = next(t for t in household.things if t.kind == household.lamp)
            go(lamp.place)
            plan.append(f"use {named[lamp.id]}")
        else:
            go(first(household.target))
            plan.append(f"move {named[thing.id]} to {named[first(household.target)]}")
    return plan


def _names(household: Household) -> dict[str, str]:
    """Names of things and places as ALFWorld shows them: numbered by kind, in reverse order of their ids."""
    ids = {maker._mangled(i).lower(): i for i in (*household.places, *(t.id for t in household.things))}
    kinds = {low: low.split("_bar_", 1)[0] + ("basin" if "basin" in low else "") for low in ids}
    left = Counter(kinds.values())
    named = {}
    for low in sorted(ids):
        named[ids[low]] = f"{kinds[low]} {left[kinds[low]]}"
        left[kinds[low]] -= 1
    return named

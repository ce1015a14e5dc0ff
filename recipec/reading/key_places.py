"""Sections and components that have a key, for advice on one that stands elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from recipec.component import Section, components_of
from recipec.reading import field_descriptions
from recipec.spec.machine import ENGINE_SLOTS, Machine
from recipec.spec.recipe import (
    COMPONENT_SLOTS,
    DEFAULT_LOSS,
    KEY_SLOTS,
    SLOTS,
    Budget,
    Evaluation,
    Recipe,
    Sampling,
    Stage,
)

Path = tuple[str | int, ...]


@cache
def _places() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Return the sections that have each key, with the slot or section that they fill; only needed after a mistake."""
    by_key: dict[str, list[tuple[str, str]]] = {}
    engines = {slot: name for name, slot in ENGINE_SLOTS.items()}
    for slot in COMPONENT_SLOTS:
        for name, cls in components_of(slot).items():
            for key in field_descriptions.keys_of(cls):
                if key != "type":
                    called = f"`machine.{engines[slot]}: {{type: {name}}}`" if slot in engines else f"{slot} `{name}`"
                    by_key.setdefault(key, []).append((slot, called))
    sections: dict[str, type[Section]] = {
        "stage": Stage,
        "budget": Budget,
        "recipe": Recipe,
        "evaluation": Evaluation,
        "machine": Machine,
    }
    named = {"stage": "a stage", "budget": "`budget`", "recipe": "the recipe", "machine": "`machine`"}
    for home, section in sections.items():
        for key in field_descriptions.keys_of(section):
            by_key.setdefault(key, []).append((home, named.get(home, "an evaluation")))
    for key in field_descriptions.keys_of(Sampling):
        by_key.setdefault(key, []).append(("evaluation", "the `sampler` of an evaluation"))
    return {key: tuple(places) for key, places in by_key.items()}


def places_of(key: str, path: Path, kind: str) -> list[tuple[str, str]]:
    """List slot or section, and what it is called, of those that have a key."""
    places = _places().get(key, ())
    if path[:1] == ("evaluate",):
        near = {"evaluation", "data", "environment", "knowledge", "reward"}
    elif path[:1] == ("machine",):
        near = {"machine", *ENGINE_SLOTS.values()}
    elif path[:1] == ("trackers",):
        near = {KEY_SLOTS["trackers"]}
    elif path[:1] == ("stages",):
        slot_use = {slot.name: getattr(slot, kind, "may") for slot in SLOTS}
        usual = DEFAULT_LOSS.get(kind, "") if kind else ""  # type: ignore[call-overload]
        first = f"loss `{usual}`"
        # needed slots first, and of the losses the one that a stage of this kind has by default
        places = tuple(sorted(places, key=lambda place: (slot_use.get(place[0]) == "may", place[1] != first)))
        places = tuple(place for place in places if place[0] != "loss" or place[1] == first) or places
        near = {"stage", "budget", *(name for name, use in slot_use.items() if use != "no")}
    else:
        near = {"recipe", "stage"}
    slot = next((str(part) for part in reversed(path) if part in COMPONENT_SLOTS), "")
    usual_losses = {f"loss `{name}`" for name in DEFAULT_LOSS.values()}
    alike = [place for place in _places().get(key, ()) if place[0] == slot]
    alike.sort(key=lambda place: place[1] not in usual_losses)
    return [place for place in places if place[0] in near] or alike or list(places)

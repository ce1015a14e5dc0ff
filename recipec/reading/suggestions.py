"""Advice on a mistake: a similar name, another tool's name, or the place where a key belongs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from recipec.component import component_names, components_of
from recipec.diagnostics.model import Proposal
from recipec.diagnostics.phrases import distance, folded, nearest, question
from recipec.reading import field_descriptions
from recipec.reading.component_suggestions import joined
from recipec.reading.foreign.advice import Advice, for_name, for_section
from recipec.reading.foreign.tables import is_section
from recipec.reading.key_places import places_of
from recipec.reading.plain_mistakes import (
    KeyAdvice,
    Path,
    below_stage,
    certain,
    leaves_of_trees,
    wrapped,
    written_value,
)
from recipec.spec.machine import ENGINE_SLOTS
from recipec.spec.recipe import COMPONENT_SLOTS, SLOT

_NAMED = ("stages", "evaluate", "trackers")
"""Keys of a recipe that hold named parts."""
_SHORT = 3
"""Letters of words that occur in many names."""
_OTHERS = 16
"""Most further keys that tell which tool is meant: a section may have thousands that nothing reads."""
_WHOLE = ("recipe", "stage")
"""Sections that are not components."""


@dataclass(frozen=True, slots=True)
class _Clues:
    """What speaks for one meaning of an unknown key or another."""

    similar: Sequence[str]
    """Keys of this section with a similar name, the likeliest first."""
    misspelt: bool
    """Whether the first of them differs in one letter, and may have the value."""
    foreign: Advice | None
    """What it is here, as another tool's name."""
    inside: Advice
    """What the names in its mapping are here, as another tool's."""
    homes: Sequence[tuple[str, str]]
    """Slots and sections that have such a key, with what they are called."""


def for_key(
    key: str, value: Any, path: Path, keys: Iterable[str], section: Mapping[str, Any], kind: str = ""
) -> KeyAdvice:
    """Advise on an unknown key of the section at ``path``, in a stage of ``kind``."""
    known = list(keys)
    if (plain := certain(key, value, path, known, section)) is not None:
        return plain
    others = tuple(islice((other for other in section if other not in known and other != key), _OTHERS))
    clues = _clues(key, value, path, known, section, kind, others)
    meant_elsewhere = clues.inside.meant or (clues.foreign is not None and clues.foreign.meant)
    if not meant_elsewhere and (around := wrapped(key, value, known, section)) is not None:
        return around
    foreign, homes, at_stage = clues.foreign, clues.homes, path[:1] == ("stages",) and len(path) == 2
    home = homes[0][0] if homes and at_stage and foreign is None else ""
    if homes and _has_keys(value):
        home = _home(key, value)
    has_place = home in COMPONENT_SLOTS or home == "budget"
    shorter = foreign is None and bool(clues.similar) and clues.similar == _longer(key, known)
    advice = [question(clues.similar, key)] if clues.misspelt or shorter else []
    if homes:
        advice.append(f"`{key}` belongs to {' or '.join(text for _, text in homes[:3])}")
    if foreign is not None:
        advice += [*_within(path, key, known, foreign), foreign.text]
    advice += leaves_of_trees(key, known)
    if has_place:
        advice.append(f"write `{_inside(home, key, value)}`{_OF_MACHINE if home in ENGINE_SLOTS.values() else ''}")
    else:
        advice.append(clues.inside.text)
    if not any(advice):
        alike = question(clues.similar or _around(folded(key), known), key)
        advice.append(alike or _unoffered(below_stage(path), key, value, kind))
    best = clues.similar[0] if clues.similar and foreign is None and not homes else ""
    proposal = foreign.proposal if foreign is not None else None
    into, there = _destination(key, value, home, homes, proposal) if at_stage else ((), value)
    meant = _meant(clues, key, home, () if has_place else clues.inside.meant)
    return KeyAdvice(joined(*advice), best, meant, proposal, into, _text_of(there, value))


def _clues(
    key: str,
    value: Any,
    path: Path,
    known: Collection[str],
    section: Mapping[str, Any],
    kind: str,
    others: tuple[str, ...],
) -> _Clues:
    """Collect what speaks for one meaning or another; of another tool's name and ours, ours where both explain it."""
    similar = _similar(key, known, section)
    longer = _longer(key, known) if path[-1:] != ("budget",) else []
    similar = similar or longer
    near = bool(similar) and distance(key, similar[0]) <= 1
    misspelt = near and (not (_has_keys(value) and is_section(key)) or _fills(similar[0], value))
    foreign, inside = _foreign(below_stage(path), key, value, kind, others), Advice("")
    if _has_keys(value):
        if not misspelt and (path or key not in SLOT):  # a slot at the top is meant for a stage
            inside = for_section(value, below_stage(path), (key,), kind)
        if foreign is not None and (not foreign.meant or inside.meant):
            foreign = None  # its names are reported one by one
    homes = [] if key in known else _other_homes(key, path, kind, foreign)
    if foreign is not None:
        ours = bool(homes) and (misspelt or not foreign.meant or key in _last_words(foreign))
        foreign = None if ours or (misspelt and _has_keys(value)) else foreign
    return _Clues(similar, misspelt, foreign, inside, homes)


def _has_keys(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _last_words(advice: Advice) -> set[str]:
    return {meant.rpartition(".")[2] for meant in advice.meant}


def _other_homes(key: str, path: Path, kind: str, foreign: Advice | None) -> list[tuple[str, str]]:
    """List the homes of a key; none where it is another tool's name of another key of this section."""
    homes = places_of(key, path, kind)
    if foreign is None:
        return homes
    same = len(path) > 2 and _last_words(foreign) == {key}
    of_section = tuple(f"{section}." for section in below_stage(path)[-1:])
    if not same and any(meant.startswith(of_section) for meant in foreign.meant):
        return []
    inside = len(path) > 2 or (path and not _of_stage(foreign))
    return [home for home in homes if inside or home[0] in _WHOLE]  # at the top it means no component


def _of_stage(advice: Advice) -> bool:
    """Whether another tool's name is a key of a stage itself."""
    return bool(advice.meant) and all("." not in meant for meant in advice.meant)


def _meant(clues: _Clues, key: str, home: str, inside: Iterable[str]) -> tuple[Path, ...]:
    """Return the paths that may have been meant, each of another tool's names also as a key of this section."""
    places: list[Path] = [(name,) for name in clues.similar[:3]]
    for ours in (*(clues.foreign.meant if clues.foreign is not None else ()), *inside):
        words = ours.split(".")
        places += [tuple(words), (words[-1],)]
    return (*places, (home,), (home, key)) if home in SLOT or home == "budget" else tuple(places)


def _destination(
    key: str, value: Any, home: str, homes: Iterable[tuple[str, str]], proposal: Proposal | None
) -> tuple[tuple[str, ...], Any]:
    """Return the place of a key of a stage in one of its sections, where it is certain, and the value there."""
    slots = {slot for slot, _ in homes}
    if len(slots) == 1 and home in SLOT and not SLOT[home].levels:
        return (home, key), value
    if not slots and proposal is not None and proposal.exact and len(proposal.edits) == 1:
        ((place, text),) = proposal.edits
        return tuple(place.split(".")), json.loads(text)
    return (), value


def _within(path: Path, key: str, known: Collection[str], other: Advice) -> list[str]:
    """Where another tool's name has several meanings, say which key of this section one of them would be.

    >>> _within(("stages", "a", "loss"), "kl_coef", ["beta"], Advice("", ("reward.NAME.beta", "advantage.NAME.beta")))
    ['in `loss` it is `beta`']
    """
    names = dict.fromkeys(meant.split(".")[-1] for meant in other.meant)
    mine = [name for name in names if name in known and name != key]
    return [f"in `{path[2]}` it is `{mine[0]}`"] if len(other.meant) > 1 and mine and len(path) > 2 else []


def _similar(key: str, known: Collection[str], present: Collection[str]) -> list[str]:
    """Return our names that a key may be misspelt for; rather one that is not given yet.

    >>> _similar("kl_type", ["type", "kl"], ["type"])
    ['kl']
    """
    similar = nearest(key, known, present)
    if similar and all(name in present for name in similar):
        similar = _around(folded(key), [name for name in known if name not in present]) or similar
    return similar


def _longer(key: str, known: Iterable[str]) -> list[str]:
    """Return the only key of which another is a word, if there is one.

    >>> _longer("every", ["sync_every_updates", "from"]), _longer("length", ["max_length", "min_length"])
    (['sync_every_updates'], [])
    """
    names = [name for name in known if len(key) > _SHORT and name != key and f"_{key}_" in f"_{name}_"]
    return names if len(names) == 1 else []


def _around(key: str, known: Iterable[str]) -> list[str]:
    """Return the keys that are words of a key, or of which one begins with the other.

    >>> _around("prompt_template", ["template", "path"]), _around("max", ["max_length"]), _around("lambda", ["lam"])
    (['template'], ['max_length'], ['lam'])
    """
    short = len(key) < 3
    begins = [name for name in known if not short and len(name) >= 3 and (name.startswith(key) or key.startswith(name))]
    return [*dict.fromkeys([*(name for name in known if f"_{name}_" in f"_{key}_"), *begins])][:3]


def _foreign(head: tuple[str, ...], key: str, value: Any, kind: str, others: tuple[str, ...]) -> Advice | None:
    """Advise on another tool's name; a name that this tool does not offer means something else in a budget."""
    advice = for_name(head, (key,), value, kind, others)
    return None if head[-1:] == ("budget",) and advice is not None and not advice.meant else advice


def _unoffered(head: tuple[str, ...], key: str, value: Any, kind: str) -> str:
    """Say what is here in place of another tool's name, where nothing here has a similar one."""
    advice = for_name(head, (key,), value, kind) if "_" in key else None  # a single word may mean something else
    return advice.text if advice is not None else ""


def _text_of(value: Any, before: Any) -> str:
    """Write a value that is not the one before, or return an empty text.

    >>> _text_of("bfloat16", True), _text_of(2, 2), _text_of(True, 1)
    ('bfloat16', '', 'true')
    """
    if type(value) is type(before) and value == before:
        return ""
    return value if isinstance(value, str) and value.isidentifier() else json.dumps(value)


def _fills(slot: str, value: Mapping[str, Any]) -> bool:
    """Whether a mapping is what a slot holds: components, or levels with components, of known types."""
    if slot not in SLOT:
        return slot in _NAMED and all(isinstance(part, Mapping) for part in value.values())
    parts = list(value.values()) if SLOT[slot].levels else [value]
    return all(isinstance(part, Mapping) and part.get("type") in component_names(slot) for part in parts)


def _inside(home: str, key: str, value: Any) -> str:
    """Write a key in its slot.

    >>> _inside("optimizer", "learning_rate", 1e-5)
    'optimizer: {learning_rate: 1e-05}'
    """
    written = f"{{{key}: {written_value(value)}}}"
    if home in ENGINE_SLOTS.values():
        engine = next(name for name, slot in ENGINE_SLOTS.items() if slot == home)
        return f"machine: {{{engine}: {written}}}"
    levels = home in SLOT and SLOT[home].levels
    return f"{home}: {{NAME: {written}}}" if levels else f"{home}: {written}"


_OF_MACHINE = " at the top of the recipe"


def _home(key: str, value: Mapping[str, Any]) -> str:
    """Return the slot with a component that has a section of this name with these keys, or an empty text."""
    for slot in COMPONENT_SLOTS:
        for cls in components_of(slot).values():
            info = field_descriptions.field_of(cls, key)
            section = field_descriptions.section_of(info.annotation) if info is not None else None
            if section is not None and set(value) <= set(field_descriptions.keys_of(section)):
                return slot
    return ""

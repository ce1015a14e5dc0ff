"""Advice on a mistake: a similar name, another tool's name, or the place where a key belongs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from recipec.component import component_names, components_of
from recipec.diagnostics.model import Proposal
from recipec.diagnostics.phrases import distance, folded, nearest, question
from recipec.reading import field_descriptions
from recipec.reading.component_suggestions import joined, slot_of
from recipec.reading.foreign.advice import Advice, for_name, for_section
from recipec.reading.foreign.tables import is_section
from recipec.reading.foreign.values import foreign_component
from recipec.reading.key_places import places_of
from recipec.reading.lists import for_part
from recipec.spec.data import Columns
from recipec.spec.machine import ENGINE_SLOTS
from recipec.spec.recipe import (
    COMPONENT_SLOTS,
    KEY_SLOTS,
    SLOT,
    Kind,
)

Path = tuple[str | int, ...]
_NAMED = ("stages", "evaluate", "trackers")
"""Keys of a recipe that hold named parts."""
_WHOLE = ("recipe", "stage")
"""Sections that are not components."""
_SYNONYMS = {
    "path": "from",
    "model_path": "from",
    "function": "name",
    "fn": "name",
    "func": "name",
    "class": "name",
    "stop_words": "stop",
    "stop_strings": "stop",
    "stop_sequences": "stop",
    "column": "answer",
    "answer_column": "answer",
    "label_column": "answer",
    "gold": "answer",
}
"""Keys that are known where the first is not, and mean the same."""
_MODEL = frozenset({"model", "model_name", "model_path", "model_name_or_path", "name"})
"""Keys for weights, which are `from` here."""
_CONFIG = frozenset({"name", "subset", "config_name", "dataset_config", "dataset_config_name"})
"""Keys for a configuration of a data set of the hub, or for the data set."""
_TYPES = frozenset({"name", "kind", "algorithm", "method", "mode", "class", "optimizer", "strategy"})
"""Keys under which other tools name a component."""
_COLUMN = re.compile(r"(?:dataset_)?(\w+?)_(?:column|field|key)(?:_name)?|column_(\w+)")
_COLUMNS = {
    "question": "prompt",
    "input": "prompt",
    "query": "prompt",
    "response": "completion",
    "output": "completion",
}
"""Columns that have another name here."""
_OF_WEIGHTS = "dtype"
"""A key of rollout engines that the weights have, too."""
_PRECISION = frozenset({"precision", "mixed_precision", "torch_dtype", "bf16", "fp16", "amp"})
_TIME = re.compile(r"(?:max_|train_)?(?:time|hours?|minutes?|seconds?|days?|duration|wall_?time)(?:_limit|_\w+)?")


@dataclass(frozen=True, slots=True)
class KeyAdvice:
    """Advice on an unknown key."""

    text: str
    best: str = ""
    """Our name, where the key is only misspelt."""
    meant: tuple[Path, ...] = ()
    """Paths that may have been meant, relative to the section of the key, to the stage, or to the recipe."""
    proposal: Proposal | None = None
    into: tuple[str, ...] = ()
    """Place of a key of a stage in one of its sections, where it is certain."""
    value: str = ""
    """The value there, if it is another."""


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
    if (certain := _certain(key, value, path, known, section)) is not None:
        return certain
    clues = _clues(key, value, path, known, section, kind)
    foreign, homes, at_stage = clues.foreign, clues.homes, path[:1] == ("stages",) and len(path) == 2
    home = homes[0][0] if homes and at_stage and foreign is None else ""
    if homes and _has_keys(value):
        home = _home(key, value)
    has_place = home in COMPONENT_SLOTS or home == "budget"
    advice = [question(clues.similar, key)] if clues.misspelt else []
    if homes:
        advice.append(f"`{key}` belongs to {' or '.join(text for _, text in homes[:3])}")
    if foreign is not None:
        advice += [*_within(path, key, known, foreign), foreign.text]
    if has_place:
        advice.append(f"write `{_inside(home, key, value)}`{_OF_MACHINE if home in ENGINE_SLOTS.values() else ''}")
    else:
        advice.append(clues.inside.text)
    if not any(advice):
        alike = question(clues.similar or _around(folded(key), known), key)
        advice.append(alike or _unoffered(_head(path), key, value, kind))
    best = clues.similar[0] if clues.similar and foreign is None and not homes else ""
    proposal = foreign.proposal if foreign is not None else None
    into, there = _destination(key, value, home, homes, proposal) if at_stage else ((), value)
    meant = _meant(clues, key, home, () if has_place else clues.inside.meant)
    return KeyAdvice(joined(*advice), "" if best in section else best, meant, proposal, into, _text_of(there, value))


def _clues(key: str, value: Any, path: Path, known: Collection[str], section: Mapping[str, Any], kind: str) -> _Clues:
    """Collect what speaks for one meaning or another; of another tool's name and ours, ours where both explain it."""
    similar = _similar(key, known, section)
    near = bool(similar) and distance(key, similar[0]) <= 1
    misspelt = near and (not (_has_keys(value) and is_section(key)) or _fills(similar[0], value))
    foreign, inside = _foreign(_head(path), key, value, kind), Advice("")
    if _has_keys(value):
        if not misspelt and (path or key not in SLOT):  # a slot at the top is meant for a stage
            inside = for_section(value, _head(path), (key,), kind)
        if foreign is not None and (not foreign.meant or inside.meant):
            foreign = None  # its names are reported one by one
    homes = [] if key in known else _other_homes(key, path, kind, foreign)
    if foreign is not None:
        ours = bool(homes) and (misspelt or not foreign.meant or key in _last_words(foreign))
        foreign = None if ours or (misspelt and _has_keys(value)) else foreign
    return _Clues(similar, misspelt, foreign, inside, homes)


def _head(path: Path) -> tuple[str, ...]:
    """Return the words of a path below its stage."""
    return tuple(str(part) for part in (path[2:] if path[:1] == ("stages",) else path))


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
    of_section = tuple(f"{section}." for section in _head(path)[-1:])
    if not same and any(meant.startswith(of_section) for meant in foreign.meant):
        return []
    inside = len(path) > 2 or (path and not _of_stage(foreign))
    return [home for home in homes if inside or home[0] in _WHOLE]  # at the top it means no component


def _of_stage(advice: Advice) -> bool:
    """Whether another tool's name is a key of a stage itself."""
    return bool(advice.meant) and all("." not in meant for meant in advice.meant)


def _meant(clues: _Clues, key: str, home: str, inside: Iterable[str]) -> tuple[Path, ...]:
    """Return the paths that may have been meant, each of another tool's names also as a key of this section."""
    places: list[Path] = [(name,) for name in clues.similar[:1]]
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


def _around(key: str, known: Iterable[str]) -> list[str]:
    """Return the keys that are words of a key, or of which one begins with the other.

    >>> _around("prompt_template", ["template", "path"]), _around("max", ["max_length"]), _around("lambda", ["lam"])
    (['template'], ['max_length'], ['lam'])
    """
    short = len(key) < 3
    begins = [name for name in known if not short and len(name) >= 3 and (name.startswith(key) or key.startswith(name))]
    return [*dict.fromkeys([*(name for name in known if f"_{name}_" in f"_{key}_"), *begins])][:3]


def _foreign(head: tuple[str, ...], key: str, value: Any, kind: str) -> Advice | None:
    """Advise on another tool's name; a name that this tool does not offer means something else in a budget."""
    advice = for_name(head, (key,), value, kind)
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


def _certain(key: str, value: Any, path: Path, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on a key of which the mistake is plain: a file of code, a synonym, a missing colon, a tracker."""
    advice = _of_file(value) or (None if path else _at_top(key, value)) or _elsewhere(key, value, path, section)
    advice = advice or _synonym(key, known, section)
    advice = advice or _renamed(key, value, path, known, section) or _of_meaning(key, path, known, section)
    of_columns = path[-1:] == ("columns",) and isinstance(value, str)
    if advice is None and of_columns and value in known and value not in section:
        advice = KeyAdvice(f"the names of a recipe come first: write `{value}: {key}`", meant=((value,),))
    return advice or (_argument(key, value, known, section) if path else _tracker(key, value))


def _of_file(value: Any) -> KeyAdvice | None:
    """Advise on a file of code."""
    if isinstance(value, str) and value.endswith(".py"):
        file = f"./{value.removeprefix('./')}"
        return KeyAdvice(f"your code is named once, at the top of the recipe: `use: [{file}]`", meant=(("use",),))
    return None


def _synonym(key: str, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    ours = _SYNONYMS.get(key, "")
    return KeyAdvice(question([ours]), ours, ((ours,),)) if ours in known and ours not in section else None


def _renamed(key: str, value: Any, path: Path, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on the name of a component under another key than `type`, of a column, and on weights of sources."""
    slot = slot_of(path)
    if key in _TYPES and isinstance(value, str) and slot and value == section.get("type"):
        return KeyAdvice("`type` names it: remove this key")
    if key in _TYPES and isinstance(value, str) and slot and "type" not in section:
        ours = value if value in component_names(slot) else foreign_component(folded(value), slot)
        if ours:
            return KeyAdvice(f"write `type: {ours}`", meant=(("type",),))
    if key in _CONFIG and "config" in known and isinstance(value, str):
        ours = "hub" if "/" in value else "config"
        return KeyAdvice(f"write `{ours}: {value}`", meant=((ours,),))
    column = _COLUMN.fullmatch(key)
    if column is not None and "columns" in known and isinstance(value, str):
        name = _COLUMNS.get(column[1] or column[2], column[1] or column[2])
        if name in field_descriptions.keys_of(Columns):
            return KeyAdvice(f"write `columns: {{{name}: {value}}}`", meant=(("columns",),))
    if key in {"weights", "probabilities", "ratios"} and "sources" in known:
        return KeyAdvice("each source has a `weight` of its own, as in `maths: {path: maths.jsonl, weight: 0.5}`")
    return None


def _of_meaning(key: str, path: Path, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on a model of a reference or a reward, the precision, a time, and the weight of a source."""
    if key in _MODEL and "from" in known and "from" not in section and slot_of(path) in {"reference", "reward"}:
        return KeyAdvice(question(["from"]), "from", (("from",),))
    if key in _PRECISION and path in {(), ("machine",)}:
        return KeyAdvice("it is that of the weights, in a stage: `policy: {type: causal_lm, dtype: bfloat16}`")
    if path[-1:] == ("budget",) and _TIME.fullmatch(key):
        return KeyAdvice(
            "a length is not given in time: write `steps` or `epochs`; `recipec plan` tells the hours",
            meant=(("steps",),),
        )
    if key == "weight" and slot_of(path) == "data" and "columns" in known:
        return KeyAdvice("sources of a mixture have one: `{type: mix, sources: {NAME: {path: …, weight: 0.5}}}`")
    return None


def _argument(key: str, value: Any, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on a parameter of the user's reward function, which a recipe does not give."""
    if section.get("type") != "function" or not key.isidentifier() or nearest(key, known, section):
        return None
    default = json.dumps(value, ensure_ascii=False) if isinstance(value, str | int | float) else "…"
    return KeyAdvice(f"a function gets columns of the data alone: give its parameter a default, `{key}={default}`")


def _tracker(key: str, value: Any) -> KeyAdvice | None:
    if key not in component_names(KEY_SLOTS["trackers"]):
        return None
    written = "".join(f", {name}: …" for name in value) if isinstance(value, Mapping) else ""
    return KeyAdvice(f"write `trackers: {{NAME: {{type: {key}{written}}}}}`", meant=(("trackers",),))


def _elsewhere(key: str, value: Any, path: Path, section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on a stage or a slot that is indented too far, a level that is not, or a key of an engine in `machine`."""
    if path[:1] == ("stages",) and len(path) > 1 and isinstance(value, Mapping) and value.get("kind") in get_args(Kind):
        return KeyAdvice(f"it is a stage: write it below `stages`, in line with `{path[1]}`", meant=(("stages",),))
    if path[:1] == ("stages",) and len(path) > 2 and key in SLOT and isinstance(value, Mapping):
        return KeyAdvice(f"`{key}` belongs to the stage: write it in line with `{path[2]}`", meant=((key,),))
    empty = next((name for name in SLOT if SLOT[name].levels and section.get(name, name) is None), "")
    if empty and isinstance(value, Mapping) and value.get("type") in component_names(empty):
        return KeyAdvice(f"it is a level of `{empty}`: indent it below that key", meant=((empty,),))
    slots = {slot for slot, _ in places_of(key, path, "")} if path == ("machine",) else set()
    engine = next((name for name, slot in ENGINE_SLOTS.items() if slots == {slot}), "")
    text = f"write `machine: {{{engine}: {{{key}: {json.dumps(value)}}}}}`"
    if key == _OF_WEIGHTS:
        text += f" for rollouts; of the weights it is `policy: {{{key}: …}}` of a stage"
    return KeyAdvice(text) if engine else None


def _at_top(key: str, value: Any) -> KeyAdvice | None:
    text = for_part(key, value)
    return KeyAdvice(text, meant=(("stages",),)) if text else None


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
    written = f"{{{key}: {'{…}' if isinstance(value, Mapping) else json.dumps(value, ensure_ascii=False)}}}"
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

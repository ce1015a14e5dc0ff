"""Advice on a key of which the mistake is plain: a synonym, a file of code, a section at another depth."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from recipec.component import component_names
from recipec.diagnostics.model import Proposal
from recipec.diagnostics.phrases import folded, nearest, question
from recipec.reading import field_descriptions
from recipec.reading.component_suggestions import TYPES, slot_of
from recipec.reading.foreign.values import foreign_component
from recipec.reading.key_places import places_of
from recipec.reading.lists import for_part, for_several
from recipec.spec.data import Columns
from recipec.spec.machine import ENGINE_SLOTS
from recipec.spec.recipe import KEY_SLOTS, SLOT, Kind

Path = tuple[str | int, ...]
_SYNONYMS = {
    "max_completion_length": "max_turn_length",
    "offload_optimizer": "offload",
    "type": "kind",
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
_ADDRESS = frozenset({"url", "base_url", "endpoint", "address", "api_base", "host"})
_PRECISION = frozenset({"precision", "mixed_precision", "torch_dtype", "bf16", "fp16", "amp"})
_GROUP = frozenset({"num_generations", "group_size", "n", "n_samples", "num_return_sequences"})
"""Keys for the completions of a prompt, which are leaves of trees in tree search."""
_TREE = ("trees", "expansions", "rounds", "keep")
"""Keys that give the number of these leaves."""
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


def certain(key: str, value: Any, path: Path, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on a key of which the mistake is plain: a file of code, a synonym, a missing colon, a tracker."""
    advice = _of_file(value) or (None if path else _at_top(key, value)) or _elsewhere(key, value, path, section)
    advice = advice or _synonym(key, known, section)
    advice = advice or _renamed(key, value, path, known, section) or _of_meaning(key, path, known, section)
    of_columns = path[-1:] == ("columns",) and isinstance(value, str)
    if advice is None and of_columns and value in known and value not in section:
        advice = KeyAdvice(f"the names of a recipe come first: write `{value}: {key}`", meant=((value,),))
    return advice or (_argument(key, value, known, section) if path else _tracker(key, value))


def below_stage(path: Path) -> tuple[str, ...]:
    """Return the words of a path below its stage."""
    return tuple(str(part) for part in (path[2:] if path[:1] == ("stages",) else path))


def leaves_of_trees(key: str, known: Collection[str]) -> list[str]:
    """Say which keys of tree search give the completions of a prompt, which others count by one key.

    >>> leaves_of_trees("num_generations", ["num_generations"])
    []
    """
    if key not in _GROUP or not all(name in known for name in _TREE):
        return []
    return ["here a prompt has `trees` times 1 + `expansions` times `rounds` rows; `keep` limits those of a tree"]


def written_value(value: Any) -> str:
    """Write a value in a line, of a mapping only that it is one.

    >>> written_value(1e-5), written_value({"r": 8})
    ('1e-05', '{…}')
    """
    return "{…}" if isinstance(value, Mapping) else json.dumps(value, ensure_ascii=False)


def _of_file(value: Any) -> KeyAdvice | None:
    """Advise on a file of code."""
    if isinstance(value, str) and value.endswith(".py"):
        file = f"./{value.removeprefix('./')}"
        return KeyAdvice(f"your code is named once, at the top of the recipe: `use: [{file}]`", meant=(("use",),))
    return None


def wrapped(key: str, value: Any, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on a mapping around keys that this section has itself."""
    inner = list(value) if isinstance(value, Mapping) else []
    if not inner or not set(inner) <= {*known} - {"type", *section}:
        return None
    written = ", ".join(f"{name}: {written_value(value[name])}" for name in inner)
    return KeyAdvice(f"write what is in it here, without `{key}`: `{written}`", meant=tuple((name,) for name in inner))


def _synonym(key: str, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    ours = _SYNONYMS.get(key, "")
    return KeyAdvice(question([ours]), ours, ((ours,),)) if ours in known and ours not in section else None


def _renamed(key: str, value: Any, path: Path, known: Collection[str], section: Mapping[str, Any]) -> KeyAdvice | None:
    """Advise on the name of a component under another key than `type`, of a column, and on weights of sources."""
    slot = slot_of(path)
    if key in TYPES and isinstance(value, str) and slot and value == section.get("type"):
        return KeyAdvice("`type` names it: remove this key")
    if key in TYPES and isinstance(value, str) and slot and "type" not in section:
        ours = value if value in component_names(slot) else foreign_component(folded(value), slot)
        if ours:
            text = f"write `type: {ours}`"
            edit = (".".join([*below_stage(path), "type"]), json.dumps(ours))
            return KeyAdvice(text, meant=(("type",),), proposal=Proposal((edit,), text, text))
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
    if (
        key in _MODEL
        and "from" in known
        and "from" not in section
        and slot_of(path) in {"reference", "reward", "critic"}
    ):
        return KeyAdvice(question(["from"]), "from", (("from",),))
    if key in _ADDRESS and "service" in known:
        return KeyAdvice(
            "an address is that of a service: write `service: NAME` here, and at the top of the recipe "
            "`machine: {services: {NAME: {url: …}}}`",
            meant=(("service",),),
        )
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
    if key == "seeds" and isinstance(value, list):
        return KeyAdvice(for_several("seed", value, "seed"))
    text = for_part(key, value)
    return KeyAdvice(text, meant=(("stages",),)) if text else None

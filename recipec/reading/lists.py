"""Advice on lists and bare values where a mapping or one value is needed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from recipec.component import component_names
from recipec.diagnostics.phrases import folded, listed
from recipec.spec.recipe import SLOT, STAGE_NAME, UNIT

_PARTS = {"stages": "stage", "evaluate": "evaluation", "trackers": "tracker"}
"""Keys that hold named parts, next to the slots with levels, and what a part is called."""
_EQUALS = re.compile(r"(?<!\w)([a-z_]\w*) *= *(\S+)\s*")
_MOST = 4
"""Keys or items that are shown."""


def for_list(key: str, value: Sequence[Any], slot: str, known: Collection[str]) -> str:
    """Advise on a list at ``key``; ``known`` are the components of its slot, if it is one.

    >>> for_list("reward", [{"type": "exact_match"}, "length"], "reward", ())
    'give each level a name instead of a dash: `reward: {exact_match: {type: exact_match}, length: {type: length}}`'
    >>> for_list("attention", ["packed"], "attention", ("dense", "packed"))
    'write `attention: {type: packed}`'
    """
    if key == "allow":
        return f'each code has a reason: `allow: {{{value[0] if value else "RCnnn"}: "why it is right here"}}`'
    if slot == "reward" and key in {"weights", "reward_weights"}:
        return "each level of `reward` has a `weight` of its own, as in `right: {type: …, weight: 0.5}`"
    if key in _PARTS or (key == slot and SLOT[slot].levels):
        part = _PARTS.get(key, "level")
        named: dict[str, Any] = {}
        for number, item in enumerate(value, 1):
            name = _name(item) or f"{part}_{number}"
            named[name if name not in named else f"{name}_{number}"] = _content(item, slot, keep=key == slot)
        written = _flow(named) if named else f"{{NAME: {'{type: …}' if key == slot else '{…}'}}}"
        return f"give each {part} a name instead of a dash: `{key}: {written}`"
    if slot == "data" and value and all(isinstance(item, str | Mapping) for item in value):
        items = [_of_ours(item, slot) if isinstance(item, Mapping) else {"path": item} for item in value]
        sources = {_source(item) or f"source_{number}": item for number, item in enumerate(items, 1)}
        return f"write `{key}: {_flow({'type': 'mix', 'sources': sources} if len(items) > 1 else items[0])}`"
    merged = {name: inner for item in value if isinstance(item, Mapping) for name, inner in item.items()}
    apart = len(merged) == sum(len(item) if isinstance(item, Mapping) else 2 for item in value)
    if known and not (apart and len(value) > 1):
        one = _content(value[0], slot, keep=True) if value else {"type": "…"}
        several = f"there can be one `{key}`, not {len(value)}: " if len(value) > 1 else ""
        return f"{several}write `{key}: {_flow(one)}`"
    shown = f": `{key}: {_flow(merged)}`" if merged else ""
    return f"write the keys of `{key}` without dashes{shown}"


_SHARED = {"defaults", "common", "shared", "variables", "globals"}
"""Keys at the top under which other tools keep values that are used in several places."""


def for_part(key: str, value: Any) -> str:
    """Advise on a stage at the top of a recipe, and on values that are kept there to be used in several places.

    >>> for_part("imitate", {"kind": "sft"})
    'it is a stage: indent it below `stages`, as in `stages: {imitate: {…}}`'
    >>> for_part("x-lengths", {"long": 512}).partition(": ")[2]
    '`vars: {lengths: …}`, and `"${vars.lengths}"` inserts them'
    """
    if not isinstance(value, Mapping):
        return ""
    if "kind" in value or {"from", "budget"} <= set(value):
        return f"it is a stage: indent it below `stages`, as in `stages: {{{key}: {{…}}}}`"
    if key[0] in "._" or key.startswith("x-") or key in _SHARED:
        name = key.removeprefix("x-").lstrip("._-") or "shared"
        shared = "values that are used in several places belong under `vars`"
        return f'{shared}: `vars: {{{name}: …}}`, and `"${{vars.{name}}}"` inserts them'
    return ""


def for_data(key: str, value: Sequence[Any] | float, slot: str, known: Collection[str], kind: str) -> str:
    """Advise on a list or a number where a mapping is needed.

    >>> for_data("optimizer", 0.1, "optimizer", ("adamw",), "rl")
    'write `optimizer: {learning_rate: 0.1}`'
    """
    if isinstance(value, Sequence):
        return for_list(key, value, slot, known)
    return "" if isinstance(value, bool) else for_number(key, value, kind)


def for_equals(key: str, value: str) -> str:
    """Advise on lines `key = value`, which YAML reads as one text.

    >>> for_equals("budget", "steps = 40 rows_per_step = 8")
    '`=` is in the place of a colon: write `steps: 40`, `rows_per_step: 8`, each in a line of its own below `budget`'
    """
    entries = _EQUALS.findall(value)
    if len(entries) < 2 or _EQUALS.sub("", value).strip():
        return ""
    written = ", ".join(f"`{name}: {one}`" for name, one in entries)
    return f"`=` is in the place of a colon: write {written}, each in a line of its own below `{key}`"


def for_several(key: str, value: Sequence[Any], path: str) -> str:
    """Advise on a list where the parameter at ``path`` has one value.

    >>> for_several("seed", [0, 1], "seed")
    'there is one value in a run: `recipec run RECIPE --each seed=0,1` runs each'
    """
    if key == "path":
        files = {folded(PurePath(item).stem): {"path": item} for item in value if isinstance(item, str)}
        return f"several files are a mixture, `data: {_flow({'type': 'mix', 'sources': files})}`; or name their folder"
    if len(value) == 1 and not isinstance(value[0], list | Mapping):
        return f"write it without brackets: `{key}: {_flow(value[0])}`"
    if not value or any(isinstance(item, list | Mapping) for item in value):
        return ""
    if all(item == value[0] for item in value):
        return f"one number stands for all of them: `{key}: {_flow(value[0])}`"
    if path == "machine.devices":
        numbers = ",".join(map(_flow, value))
        return f"write how many: `devices: {len(value)}`; which ones is `CUDA_VISIBLE_DEVICES={numbers}`"
    return f"there is one value in a run: `recipec run RECIPE --each {path}={','.join(map(_flow, value))}` runs each"


_OF_NUMBER = {"budget": "steps", "optimizer": "learning_rate", "sampler": "num_generations"}
"""What a number in the place of a section most likely is."""


def for_number(key: str, value: float, kind: str) -> str:
    """Advise on a number where a section is needed.

    >>> for_number("budget", 100, "sft")
    'write `budget: {steps: 100, rows_per_step: …}`, or `epochs` in place of `steps`'
    """
    if key not in _OF_NUMBER:
        return ""
    written = f"{_OF_NUMBER[key]}: {value}"
    if key != "budget":
        return f"write `{key}: {{{written}}}`"
    size = f", {UNIT[kind]}: …" if kind in UNIT else ""
    return f"write `budget: {{{written}{size}}}`, or `epochs` in place of `steps`"


def for_bare_section(key: str, value: Any, known: Sequence[str], *, takes_text: bool = False) -> str:
    """Advise on a list or a single value where a section with ``known`` keys is needed; the first may be a text.

    >>> for_bare_section("lora", True, ("r", "alpha"))
    'write `lora: {r: …}`; its keys are `r`, `alpha`'
    """
    if isinstance(value, str) and takes_text:
        return f"write `{key}: {{{known[0]}: {value}}}`"
    if isinstance(value, str) and "path" in known:
        return f"write `{key}: {{path: {value}}}`"
    items = value if isinstance(value, list) and all(isinstance(item, str) for item in value) else ["…"]
    return f"write `{key}: {{{known[0]}: {items[0] if items else '…'}}}`; its keys are {listed(known)}"


def _of_ours(item: Mapping[str, Any], slot: str) -> Mapping[str, Any]:
    """Leave out the type of another tool."""
    return {key: value for key, value in item.items() if key != "type" or value in component_names(slot)}


def _name(item: Any) -> str:
    """Return a name for a part: its own, its only key, or its component."""
    if isinstance(item, Mapping):
        only = next(iter(item)) if len(item) == 1 and isinstance(next(iter(item.values())), Mapping) else ""
        item = item.get("name") or only or _alone(item) or item.get("type")
    name = folded(PurePath(item.split()[0]).stem) if isinstance(item, str) and item.strip() else ""
    return name if STAGE_NAME.fullmatch(name) else ""


def _source(item: Mapping[str, Any]) -> str:
    """Return a name for a source of a mixture, after its file or dataset."""
    return _name(str(item.get("path") or item.get("hub") or ""))


def _alone(item: Mapping[str, Any]) -> str:
    """Return the first key where it has no value, as a name has before keys that are not indented below it."""
    first = next(iter(item), "")
    return first if len(item) > 1 and item[first] is None else ""


def _content(item: Any, slot: str, *, keep: bool) -> Any:
    """Return what a part holds: for a text, the component or the function of the user's that it names."""
    if isinstance(item, Mapping):
        inner = next(iter(item.values())) if len(item) == 1 else None
        mapping = inner if isinstance(inner, Mapping) else item
        mapping = {key: value for key, value in mapping.items() if key != _alone(mapping)}
        return mapping if keep else {key: value for key, value in mapping.items() if key != "name"}
    if isinstance(item, str) and slot:
        of_user = slot == "reward" and item not in component_names(slot) and item.isidentifier()
        return {"type": "function", "name": item} if of_user else {"type": item}
    if isinstance(item, str) and PurePath(item).suffix:
        return {"data": {"path": item}}
    return {"type": "…"} if slot else "{…}"


def _flow(value: Any) -> str:
    """Write a value in flow style, of large ones the first keys.

    >>> _flow({"a": {"b": 1, "c": True}, "d": ["e"]})
    '{a: {b: 1, c: true}, d: [e]}'
    """
    if isinstance(value, Mapping):
        items = [f"{key}: {_flow(inner)}" for key, inner in value.items()]
        return f"{{{_listed(items)}}}"
    if isinstance(value, list):
        return f"[{_listed([_flow(inner) for inner in value])}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _listed(items: Sequence[str]) -> str:
    return ", ".join([*items[:_MOST], *(["…"] if len(items) > _MOST else [])])

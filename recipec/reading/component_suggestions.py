"""Advice on the name of a component or of a signal, and on a component that is given as a text."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from recipec.component import component_names, components_of
from recipec.diagnostics.phrases import folded, nearest, question
from recipec.reading import field_descriptions
from recipec.reading.foreign.values import foreign_component, foreign_value, fragment, not_offered
from recipec.signals import SIGNALS, split_axes
from recipec.spec.machine import ENGINE_SLOTS
from recipec.spec.recipe import KEY_SLOTS, SLOT

Path = tuple[str | int, ...]
_CODE = re.compile(r"\s*lambda\b.*|\s*def\s.*|[\w./]+\.py\b.*|\w+([.:]\w+)+(\(.*)?", re.DOTALL)
"""A text that is Python, or names a function of a module."""


TYPES = frozenset(
    {"name", "kind", "algorithm", "method", "mode", "class", "optimizer", "strategy", "backend", "engine"}
)
"""Keys under which other tools name a component."""


def joined(*advice: str) -> str:
    """Put pieces of advice one after another.

    >>> joined("did you mean `beta`?", "", "it is a number")
    'did you mean `beta`? it is a number'
    """
    text = ""
    for piece in filter(None, advice):
        text += piece if not text else f" {piece}" if text.endswith("?") else f"; {piece}"
    return text


def for_component(name: str, slot: str, known_names: Iterable[str]) -> tuple[str, str]:
    """Advise on an unknown component; returns the advice, and the name to replace it with or an empty text."""
    known = list(known_names)
    if slot == "reward" and _CODE.fullmatch(name):
        last = re.split(r"[.:]", name.removesuffix(".py"))[-1]
        function = last if last.isidentifier() else "NAME"
        written = f"`{{type: function, name: {function}}}`"
        return f"your function is in a file, which `use: [./rewards.py]` at the top names: {written}", ""
    other = foreign_component(folded(name), slot)
    published = fragment(name) if slot in {"loss", "advantage"} else ""
    homes = [another for another in SLOT if slot in SLOT and another != slot and name in component_names(another)]
    engines = ENGINE_SLOTS.items() if slot in SLOT else ()
    engine = next((key for key, of in engines if name in component_names(of)), "")
    other = "" if engine else other
    certain = (
        f"it is an engine: `machine: {{{engine}: {{type: {name}}}}}` at the top of the recipe" if engine else "",
        not_offered(name, slot),
        _choice_of_a_component(name, slot),
        f"what other tools call `{name}` is `{other}` here" if other in known else "",
        f"the settings published as {name} are `extends: [{published}]`" if published else "",
        f"`{name}` fills the slot `{homes[0]}`" if homes else "",
    )
    similar = [] if any(certain) else nearest(name, known)
    return joined(question(similar, name), *certain), similar[0] if similar else ""


def _choice_of_a_component(name: str, slot: str) -> str:
    """Say of which component of the slot a name is a choice, such as the variant of a loss."""
    for component, cls in components_of(slot).items():
        for key in field_descriptions.keys_of(cls):
            info = field_descriptions.field_of(cls, key)
            if key != "type" and info is not None and folded(name) in field_descriptions.literals(info.annotation):
                return f"it is a choice of {slot} `{component}`: `{{type: {component}, {key}: {folded(name)}}}`"
    return ""


def for_signal(name: str, default: object, stages: Collection[str] = ()) -> tuple[str, str]:
    """Advise on an unknown signal: those with the axes of the parameter's default fit."""
    if name in stages:
        return f"write `{name}.rollouts`", f"{name}.rollouts"
    if "." in name:
        stage, _, artifact = name.rpartition(".")
        fitting = [f"{stage}.{signal.name}" for signal in SIGNALS.values() if signal.kind == "artifact"]
        similar = [f"{stage}.{near}" for near in nearest(artifact, [s.rpartition(".")[2] for s in fitting])[:1]]
        return question(similar) or f"artifacts are {', '.join(f'`{s}`' for s in fitting)}", "".join(similar)
    other = foreign_value(name)
    if other in SIGNALS:
        return f"what other tools call `{name}` is `{other}` here", other
    axes = split_axes(default)[1] if isinstance(default, str) else ""
    fitting = [signal for signal in SIGNALS if axes and split_axes(signal)[1] == axes]
    similar = nearest(name, fitting or SIGNALS)
    if similar:
        return question(similar), similar[0]
    named = ", ".join(f"`{signal}`" for signal in fitting)
    return (f"signals with the axes {axes}: {named}" if named else "write it as `STAGE.rollouts`"), ""


def for_bare(key: str, value: str, slot: str, known: Collection[str]) -> tuple[str, str]:
    """Advise on a component that is given as a text; returns the advice, and the mapping to write or an empty text."""
    named = key == "trackers" or (key == slot and SLOT[slot].levels)
    if named and value in known:
        return f"write `{key}: {{NAME: {{type: {value}}}}}`", ""
    if value in known:
        return f"write `{key}: {{type: {value}}}`", f"{{type: {value}}}"
    if slot == "reference" and "/" in value:
        return f"write `{key}: {{from: {value}}}`", f"{{from: {value}}}"
    if slot == "policy" and "/" in value:
        return f"the weights of a stage are its key `from: {value}`", ""
    if slot == "data":
        form = "hub" if re.fullmatch(r"[\w.-]+/[\w.-]+", value) and not re.search(r"\.\w+$", value) else "path"
        return f"write `{key}: {{{form}: {value}}}`", ""
    advice, best = for_component(value, slot, known)
    if slot == "reward" and not named and not advice and value.isidentifier():
        advice = f"a function of a file under `use` is `{key}: {{type: function, name: {value}}}`"
    other = foreign_component(folded(value), slot)
    ours = other if other in known else best
    inner = f"{{type: {ours or '…'}}}"
    form = "" if "{type: " in advice else f"write `{key}: {f'{{NAME: {inner}}}' if named else inner}`"
    return joined(advice, form), ""


def slot_of(path: Path) -> str:
    """Return the slot that a component at ``path`` fills, or an empty text."""
    if path[:1] == ("machine",):
        return ENGINE_SLOTS.get(str(path[-1]), "")
    if path[:1] == ("trackers",):
        return KEY_SLOTS["trackers"]
    return next((str(part) for part in reversed(path) if part in SLOT), "")

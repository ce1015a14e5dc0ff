"""Advice on a mistake: a similar name, another tool's name, or the place where a key belongs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

from recipec.component import component_names, components_of
from recipec.diagnostics.phrases import distance, folded, nearest, question
from recipec.language.scalars import read_scalar
from recipec.reading import field_descriptions
from recipec.reading.foreign_names import foreign_component, foreign_key, foreign_leaves, foreign_value, fragment
from recipec.signals import SIGNALS, split_axes
from recipec.spec.recipe import SLOTS, Budget, Evaluation, Recipe, Sampling, Stage

Path = tuple[str | int, ...]
_YES_NO = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


def for_key(
    key: str, value: Any, path: Path, keys: Iterable[str], given: Collection[str]
) -> tuple[str, str, list[Path]]:
    """Advise on an unknown key.

    Returns:
        The advice; our name if the key is only misspelt; and the paths, relative to ``path``, that may have been meant.
    """
    similar = nearest(key, keys, given)
    exact = bool(similar) and distance(key, similar[0]) <= 1
    other = foreign_key((*path, key))
    advice = [question(similar)] if exact or other is None else []
    if other is not None:
        advice.append(other.advice)
    if isinstance(value, Mapping) and not exact:
        advice += foreign_leaves(value, (*path, key))[:8]
    places = places_of_keys().get(key, ())
    if places and key not in keys and (exact or not any(advice)):
        advice.append(f"`{key}` belongs to {' or '.join(places[:3])}")
    best = similar[0] if similar and other is None and similar[0] not in given else ""
    meant: list[Path] = [(name,) for name in similar[:1]]
    if other is not None and other.ours:
        ours = other.ours.split(".")
        meant += [tuple(ours), (ours[-1],)]
    return joined(*advice), best, meant


def joined(*advice: str) -> str:
    """Put pieces of advice one after another.

    >>> joined("did you mean `beta`?", "", "it is a number")
    'did you mean `beta`? it is a number'
    """
    text = ""
    for piece in filter(None, advice):
        text += piece if not text else f" {piece}" if text.endswith("?") else f"; {piece}"
    return text


@cache
def places_of_keys() -> Mapping[str, tuple[str, ...]]:
    """Return the sections that have each key; only needed after a mistake, since it imports every spec."""
    found: dict[str, list[str]] = {}
    for slot in SLOTS:
        for name, cls in components_of(slot.name).items():
            for key in field_descriptions.keys_of(cls):
                if key != "type":
                    found.setdefault(key, []).append(f"{slot.name} `{name}`")
    places = ((Stage, "a stage"), (Budget, "`budget`"), (Recipe, "the recipe"), (Evaluation, "an evaluation"))
    for section, place in (*places, (Sampling, "the `sampler` of an evaluation")):
        for key in field_descriptions.keys_of(section):
            found.setdefault(key, []).insert(0, place)
    return {key: tuple(places) for key, places in found.items()}


def for_component(name: str, slot: str, known_names: Iterable[str]) -> tuple[str, str]:
    """Advise on an unknown component; returns the advice, and the name to replace it with or an empty text."""
    similar = nearest(name, known_names)
    other = foreign_component(folded(name), slot)
    published = fragment(name) if slot in {"loss", "advantage"} else ""
    homes = [another.name for another in SLOTS if another.name != slot and name in component_names(another.name)]
    advice = joined(
        question(similar),
        f"what other tools call `{name}` is `{other}` here" if other else "",
        f"the settings published as {name} are `extends: [{published}]`" if published else "",
        f"`{name}` fills the slot `{homes[0]}`" if homes else "",
    )
    return advice, similar[0] if similar else ""


def for_signal(name: str, default: object) -> tuple[str, str]:
    """Advise on an unknown signal: those with the axes of the parameter's default fit."""
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


def for_value(key: str, value: Any, annotation: Any, metadata: Iterable[Any] = ()) -> tuple[str, str]:
    """Advise on a bad value; returns the advice, and the text to replace it with or an empty text.

    >>> for_value("learning_rate", "1e-5", float)
    ('without quotes it is a number: `learning_rate: 1e-5`', '1e-5')
    """
    takes = field_descriptions.expected(annotation, metadata)
    if isinstance(value, str):
        return _for_text(key, value, takes, field_descriptions.literals(annotation))
    right = ""
    if isinstance(value, float) and value.is_integer() and "integer" in takes:
        right = str(int(value))
    elif isinstance(value, int) and "true or false" in takes and value in {0, 1}:
        right = "true" if value else "false"
    return (f"write `{key}: {right}`", right) if right else ("", "")


def _for_text(key: str, value: str, takes: str, choices: list[str]) -> tuple[str, str]:
    number, _ = read_scalar(value)
    similar, other, published = nearest(value, choices), foreign_value(value), fragment(value)
    if isinstance(number, int | float) and not isinstance(number, bool) and "number" in takes:
        return f"without quotes it is a number: `{key}: {value}`", value
    if "true or false" in takes and value.lower() in _YES_NO:
        right = _YES_NO[value.lower()]
        return f"write `{key}: {right}`", right
    if other in choices or (published and not similar):
        right = other if other in choices else ""
        advice = joined(
            f"what other tools call `{value}` is `{right}` here" if right else "",
            f"the settings published as {value} are `extends: [{published}]`" if published else "",
        )
        return advice, right
    if takes.startswith("a list of strings") and not similar:
        right = f"[{json.dumps(value, ensure_ascii=False)}]"
        return f"a single string must be a list, too: `{key}: {right}`", right
    return question(similar), similar[0] if similar else ""

"""What may have been meant: our nearest name, another tool's name, or the place where a key belongs."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

from recipec.component import components_of
from recipec.language.scalars import read_scalar
from recipec.reading import field_descriptions
from recipec.reading.foreign_names import foreign_component, foreign_key, foreign_leaves, foreign_value, fragment
from recipec.reading.nearest_names import did_you_mean, distance, folded, nearest
from recipec.signals import SIGNALS, split_axes
from recipec.spec.recipe import SLOTS, Budget, Evaluation, Recipe, Sampling, Stage

Path = tuple[str | int, ...]
_YES_NO = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}


def for_key(
    key: str, value: Any, path: Path, keys: Iterable[str], given: Collection[str]
) -> tuple[str, str, list[Path]]:
    """Advise on an unknown key.

    Returns:
        The advice; our name if the key is but misspelt; and the places, from here on, that it may have been meant for.
    """
    close = nearest(key, keys, given)
    exact = bool(close) and distance(folded(key), folded(close[0])) <= 1
    other = foreign_key((*path, key))
    said = [did_you_mean(close)] if close and (exact or other is None) else []
    if other is not None:
        said.append(other.advice)
    if isinstance(value, Mapping) and not exact:
        said += foreign_leaves(value, (*path, key))[:8]
    home = [place for place in whereabouts().get(key, ()) if not said or exact]
    if home and key not in keys:
        said.append(f"`{key}` stands in {' or '.join(home[:3])}")
    best = close[0] if close and other is None and close[0] not in given else ""
    meant: list[Path] = [(name,) for name in close[:1]]
    if other is not None and other.ours:
        ours = other.ours.split(".")
        meant += [tuple(ours), (ours[-1],)]
    return joined(*said), best, meant


def joined(*said: str) -> str:
    """Put pieces of advice behind each other.

    >>> joined("did you mean `beta`?", "", "it is a number")
    'did you mean `beta`? it is a number'
    """
    text = ""
    for piece in filter(None, said):
        text += piece if not text else f" {piece}" if text.endswith("?") else f"; {piece}"
    return text


@cache
def whereabouts() -> Mapping[str, tuple[str, ...]]:
    """Return where each key of ours stands: read only after a mistake, since it imports every spec."""
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
    """Advise on an unknown component; returns the advice, and the name that was meant if that is plain."""
    close = nearest(name, known_names)
    other = foreign_component(folded(name), slot)
    published = fragment(name) if slot in {"loss", "advantage"} else ""
    said = [did_you_mean(close)] if close else []
    if other:
        said.append(f"what other tools call `{name}` is `{other}` here")
    if published:
        said.append(f"the settings published as {name} are `extends: [{published}]`")
    homes = [
        other_slot.name for other_slot in SLOTS if other_slot.name != slot and name in components_of(other_slot.name)
    ]
    if homes:
        said.append(f"`{name}` fills the slot `{homes[0]}`")
    return joined(*said), close[0] if close else ""


def for_signal(name: str, default: object) -> tuple[str, str]:
    """Advise on an unknown signal: those of the vocabulary with the axes that the parameter's own default has."""
    axes = split_axes(default)[1] if isinstance(default, str) else ""
    fitting = [signal for signal in SIGNALS if axes and split_axes(signal)[1] == axes]
    if "." in name:
        stage, _, artifact = name.rpartition(".")
        fitting = [f"{stage}.{s.name}" for s in SIGNALS.values() if s.kind == "artifact"]
        close = nearest(artifact, [s.rpartition(".")[2] for s in fitting])
        best = f"{stage}.{close[0]}" if close else ""
        return did_you_mean([best]) if best else f"artifacts are {', '.join(f'`{s}`' for s in fitting)}", best
    other = foreign_value(name)
    if other in SIGNALS:
        return f"what other tools call `{name}` is `{other}` here", other
    close = nearest(name, fitting or SIGNALS)
    if close:
        return did_you_mean(close), close[0]
    listed = ", ".join(f"`{signal}`" for signal in fitting)
    return (f"signals with the axes {axes}: {listed}" if listed else "write it as `STAGE.rollouts`"), ""


def for_value(key: str, value: Any, annotation: Any, metadata: Iterable[Any] = ()) -> tuple[str, str]:
    """Advise on a bad value; returns the advice, and what to write instead if that is plain.

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


def _for_text(key: str, value: str, takes: str, words: list[str]) -> tuple[str, str]:
    number, _ = read_scalar(value)
    close, other, published = nearest(value, words), foreign_value(value), fragment(value)
    said, right = did_you_mean(close), close[0] if close else ""
    if isinstance(number, int | float) and not isinstance(number, bool) and "number" in takes:
        said, right = f"without quotes it is a number: `{key}: {value}`", value
    elif "true or false" in takes and value.lower() in _YES_NO:
        right = _YES_NO[value.lower()]
        said = f"write `{key}: {right}`"
    elif other in words or (published and not close):
        right = other if other in words else ""
        said = joined(
            f"what other tools call `{value}` is `{right}` here" if right else "",
            f"the settings published as {value} are `extends: [{published}]`" if published else "",
        )
    elif takes.startswith("a list of strings") and not close:
        right = f"[{json.dumps(value, ensure_ascii=False)}]"
        said = f"a single string must be a list, too: `{key}: {right}`"
    return said, right

"""Structured recipes for a fuzzer: shipped ones resolved, then changed by a grammar over the keys, splices, `--set`."""

import json
import random
import signal
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from recipec.compile import compile_recipe
from recipec.component import Section, components_of
from recipec.diagnostics.fixes import fixed_texts
from recipec.diagnostics.formats import render
from recipec.diagnostics.model import RecipeError
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.planning.plan_text import render_plan
from recipec.run.run_plan import plan_run
from recipec.spec.machine import Machine
from recipec.spec.recipe import SLOTS, Budget, Evaluation, Recipe, Sampling, Stage
from recipec.yaml_io import text_of

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
ODD: tuple[Any, ...] = (
    None, 0, -1, 1, 2, 1e308, 1e-320, 2**63, "", "x", [], {}, True, "${vars.x}", "${stages}", "a\x1b]", "../..",
    "\u202e", "x" * 5000, [None], {"type": "x"}, [[[[]]]], {"a": {"b": {}}}, "1e5", ".inf", "package:tiny", "scratch",
)  # fmt: skip
NAMES = ("type", "path", "weight", "from", "evaluate", "reward", "extends", "vars", "stages", "kind", "allow")
SECTIONS: dict[str, type[Section]] = {
    "budget": Budget, "machine": Machine, "sampler": Sampling, "evaluate": Evaluation, "stages": Stage,
}  # fmt: skip
GENTLE = 0.45
"""Share of the changes that keep to what a key takes: without it nearly no recipe compiles."""


LONGEST = 5.0
"""Seconds of CPU after which a recipe is given up."""
EDITS = 100
"""How often an edit is applied that a message offers again: of `{{{a: 1`, each brace is closed by one."""


@dataclass
class Corpus:
    """The recipes to start from, with the values that occur in them: all of them, and by key."""

    recipes: list[dict[str, Any]]
    values: list[Any]
    by_key: dict[str, list[Any]]


@dataclass
class Tried:
    """What happened to one recipe."""

    text: str
    overrides: tuple[str, ...]
    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    editing: float = 0.0
    """Seconds of CPU in which edits were tried, which a user does not wait for."""


def corpus() -> Corpus:
    """Read the shipped recipes: with their includes resolved, and as written."""
    written = [path for path in sorted(RECIPES.rglob("*.yaml")) if path.parent.name != "algorithms"]
    recipes = [resolve(read_source(str(path))).data for path in written]
    recipes = [recipe for recipe in recipes if "stages" in recipe]
    by_key: dict[str, list[Any]] = {}
    for key, value in (pair for recipe in recipes for pair in _items(recipe)):
        if value not in by_key.setdefault(key, []):
            by_key[key].append(value)
    for slot in SLOTS:
        made: list[Any] = [{"type": name} for name in components_of(slot.name)]
        by_key.setdefault(slot.name, []).extend({"a": one} if slot.levels else one for one in made)
    return Corpus(recipes, [*ODD, *(value for values in by_key.values() for value in values)], by_key)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key with its value, at every depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from _items(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _items(inner)


def _places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*above, key)
        yield from _places(one, (*above, key))


def _legal(annotation: Any, draw: random.Random) -> Any:
    """Draw a value of a parameter's type, or an odd one where the type is not simple."""
    choices = [choice for choice in get_args(annotation) if choice is not type(None)]
    if get_origin(annotation) is Literal:
        return draw.choice(choices)
    if choices and get_origin(annotation) not in {dict, tuple}:
        return _legal(draw.choice(choices), draw)
    if annotation is bool:
        return draw.random() < 0.5
    if annotation is int:
        return draw.choice((0, 1, 2, 3, 4, 8, 64, 1000, 10**6, 10**9))
    if annotation is float:
        return draw.choice((0.0, 1e-6, 0.1, 0.5, 1.0, 2.0, 1e6))
    return draw.choice(ODD)


def _parameter(slot: str, holder: dict[str, Any], draw: random.Random) -> tuple[str, Any]:
    """Draw a parameter that the section at a key knows, with a value of its type."""
    known: type[Section] = SECTIONS.get(slot) or draw.choice((Stage, Recipe, Evaluation))
    registered = {one.name: components_of(one.name) for one in SLOTS}
    kind = holder.get("type")
    found = [classes[kind] for classes in registered.values() if isinstance(kind, str) and kind in classes]
    cls: type[Section] = draw.choice(found) if found else known
    name, info = draw.choice(list(cls.model_fields.items()))
    return info.alias or name, _legal(info.annotation, draw)


def mutated(data: dict[str, Any], known: Corpus, draw: random.Random) -> dict[str, Any]:
    """Change one place of a copy of a recipe's data."""
    data = json.loads(json.dumps(data))
    places = list(_places(data))
    if not places:
        return {draw.choice(NAMES): draw.choice(known.values)}
    place = draw.choice(places)
    *above, last = place
    holder = data
    for step in above:
        holder = holder[step]
    if draw.random() < GENTLE and isinstance(holder, dict):
        if draw.random() < 0.5:
            holder[last] = draw.choice(known.by_key.get(last) or known.values)
        else:
            name, value = _parameter(next((k for k in reversed(above) if isinstance(k, str)), ""), holder, draw)
            holder[name] = value
        return data
    deed = draw.random()
    if deed < 0.25:
        del holder[last]
    elif deed < 0.5 or isinstance(holder, list):
        holder[last] = draw.choice(known.values)
    elif deed < 0.7:
        holder[draw.choice((f"{last}x", *NAMES))] = draw.choice(known.values)
    elif deed < 0.85:
        holder[draw.choice((str(last)[:-1] or "x", *known.by_key))] = holder.pop(last)
    else:
        holder[draw.choice(list(known.by_key))] = holder[last]
    return data


def drawn(known: Corpus, draw: random.Random) -> tuple[str, tuple[str, ...]]:
    """Draw the text of a recipe and overrides of the command line."""
    data = draw.choice(known.recipes)
    if draw.random() < 0.1:
        other = draw.choice(known.recipes)
        data = {**data, "stages": {**data["stages"], **other["stages"]}}
    for _ in range(draw.choice((1, 1, 1, 2, 3, 5))):
        data = mutated(data, known, draw)
    overrides = []
    if draw.random() < 0.2:
        places = [place for place in _places(data) if all(isinstance(step, str) for step in place)] or [("name",)]
        place = draw.choice(places)
        near = (*place[:-1], draw.choice(list(known.by_key))) if draw.random() < 0.3 else place
        value = draw.choice(known.by_key.get(place[-1]) or known.values)
        overrides.append(f"{'.'.join(near)}={json.dumps(value)}")
    return text_of(data), tuple(overrides)


def tried(text: str, overrides: tuple[str, ...] = ()) -> Tried:
    """Validate and compile a recipe, print what is said, and plan it if it compiles."""
    done = Tried(text, overrides)
    begun = time.process_time()
    before = signal.signal(signal.SIGVTALRM, _too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
    try:
        _try(done)
    except Exception as error:  # noqa: BLE001 - every exception is counted
        frames = traceback.extract_tb(error.__traceback__)
        place = next(one for one in reversed(frames) if "recipec" in one.filename and one.name != "_too_long")
        done.faults.append(f"exception {type(error).__name__} in {Path(place.filename).name} {place.name}")
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    if time.process_time() - begun - done.editing > 1:
        done.faults.append(f"over a second {'planned' if done.counts.get('compiled') else 'compiled'}")
    return done


def _too_long(*_: Any) -> None:
    raise TimeoutError


def _try(done: Tried) -> None:
    path = RECIPES / "tiny" / "fuzzed.yaml"
    made = compile_recipe(path, done.overrides, text=done.text)
    errors = [found for found in made.diagnostics if found.is_error]
    done.counts["errors"] = len(errors)
    done.faults += [f"no place {found.code}" for found in errors if not found.spans]
    done.faults += [f"no help {found.code}" for found in made.diagnostics if not found.help]
    if not errors and made.graph is None and made.recipe is not None:
        done.faults.append("neither graph nor error")
    render(made.diagnostics, made.texts, valid=made.ok)
    read = time.process_time()
    _fix(done, made.diagnostics, made.texts)
    done.editing = time.process_time() - read
    if made.graph is not None:
        done.counts["compiled"] = 1
        try:
            render_plan(plan_run(made, Path("absent")))
            done.counts["planned"] = 1
        except RecipeError as refused:
            done.counts["refused by plan"] = 1
            done.faults += [f"no help {found.code} of plan" for found in refused.diagnostics if not found.help]


def _fix(done: Tried, found: Any, texts: Any) -> None:
    """Apply the first edit that messages bring: what is edited is said no more, or only where it was made before."""
    edits = [one for one in found if one.fix is not None]
    name, place = str(RECIPES / "tiny" / "fuzzed.yaml"), None
    for _ in range(EDITS):
        edited, count = fixed_texts(texts, edits[:1]).get(name, ("", 0))
        if not count:
            return
        done.counts["edits"] = done.counts.get("edits", 0) + 1
        place = (edits[0].spans[0].line, edits[0].spans[0].column)
        again = compile_recipe(name, done.overrides, text=edited)
        same = [one for one in again.diagnostics if _words(one) == _words(edits[0])]
        if edited.count("\n") == texts[name].count("\n"):
            same = [one for one in same if place <= (one.spans[0].line, one.spans[0].column) < (place[0] + 1, 0)]
        if not same:
            return
        edits, texts = same, again.texts
    done.faults.append(f"edit without effect {edits[0].code}")


def _words(one: Any) -> tuple[str, str, str]:
    return one.code, one.path, one.message

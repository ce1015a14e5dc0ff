"""The commented recipe: every line names the line of the file that it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recipec.diagnostics.snippet import visible
from recipec.importing.report import gathered
from recipec.importing.translate import Setting, Translation
from recipec.reading.foreign.advice import of_recipe
from recipec.reading.foreign.values import value_names
from recipec.spec.recipe import FORMAT, SLOT
from recipec.yaml_io import text_of

STAGE = "train"
"""The name of the stage."""
_TOP = ("name", "seed", "use", "stages", "evaluate", "machine", "trackers")
_ORDER = ("kind", "from", *SLOT, "budget")
Tree = dict[str, Any]


def recipe_text(translation: Translation, file: str) -> str:
    """Return the recipe as text, each value with a comment."""
    tool, trainer = translation.found.tool.name, translation.found.trainer.title
    lines = [
        f"# From {visible(file)}: {tool}, {trainer} ({translation.found.reason}).",
        f"# Comments name lines of that file; `default` is what {tool} does where the file says nothing.",
        f"recipec: {FORMAT}",
        *_block(_sorted(tree(translation)), 0),
    ]
    lost = [fate for fate in translation.fates if fate.verdict in {"missing", "unknown"} and fate.line]
    if lost:
        lines.append("# Not in this recipe:")
        lost = gathered(sorted(lost, key=lambda fate: fate.line))
        lines += [_comment(f"  {fate.line}: {fate.name}: {fate.text}") for fate in lost]
    return "".join(f"{line}\n" for line in lines)


def tree(translation: Translation) -> Tree:
    """Arrange the values as a recipe, with a setting at each leaf."""
    root: Tree = {}
    for setting in _complete(translation).values():
        words = setting.path.split(".")
        path = words if of_recipe(setting.path) else ["stages", STAGE, *words]
        inner = root
        for word in path[:-1]:
            inner_mapping = inner.setdefault(word, {})
            if not isinstance(inner_mapping, dict):
                break
            inner = inner_mapping
        else:
            if not isinstance(inner.get(path[-1]), dict):
                inner[path[-1]] = setting
    return root


def _complete(translation: Translation) -> dict[str, Setting]:
    """Add what every recipe has: its name, the kind of its stage, and the types of named levels."""
    settings = dict(translation.settings)
    settings["kind"] = Setting("kind", translation.kind, translation.found.trainer.title, origin="trainer")
    levels = {".".join(path.split(".")[:2]) for path in settings if path.split(".")[0] in SLOT and path.count(".") == 2}
    for level in sorted(levels):
        usual = value_names().levels.get(level)
        if usual is not None:
            settings.setdefault(f"{level}.type", Setting(f"{level}.type", usual, "its level", origin="trainer"))
    return settings


def _sorted(root: Tree) -> Tree:
    ordered = {key: root[key] for key in _TOP if key in root}
    for name, stage in ordered.get("stages", {}).items():
        ordered["stages"] = {name: {key: stage[key] for key in sorted(stage, key=_place)}}
    return ordered


def _place(key: str) -> int:
    return _ORDER.index(key) if key in _ORDER else len(_ORDER)


def _block(data: Mapping[str, Any], depth: int) -> Iterator[str]:
    """Yield the lines of a mapping; a type comes first."""
    for key, value in sorted(data.items(), key=lambda item: item[0] != "type"):
        if isinstance(value, Setting):
            written = text_of({key: value.value}).rstrip("\n")
            yield f"{'  ' * depth}{written}  {_comment(_source(value))}"
        else:
            yield f"{'  ' * depth}{key}:"
            yield from _block(value, depth + 1)


def _source(setting: Setting) -> str:
    where = {"file": f"{setting.line}: {setting.name}", "default": f"default: {setting.name}"}
    source = where.get(setting.origin, setting.name)
    return f"{source}; {setting.note}" if setting.note else source


def _comment(text: str) -> str:
    return "# " + visible(" ".join(text.split()))


def plain(root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a tree without their origins."""
    return {key: value.value if isinstance(value, Setting) else plain(value) for key, value in root.items()}

"""Lists of shipped recipes, components, signals and codes, and the page of each component."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from recipec.component import Component, Section, When, find_component, installed_components, is_path, is_signal
from recipec.diagnostics.errors.reading import broken_plugin
from recipec.diagnostics.model import RecipeError
from recipec.package_files import shipped
from recipec.reading import field_descriptions
from recipec.signals import SIGNALS
from recipec.spec.recipe import COMPONENT_SLOTS


def slots() -> tuple[str, ...]:
    """Return the slots of stages and of `machine`."""
    return COMPONENT_SLOTS


def rows(what: str) -> list[tuple[str, str]] | None:
    """Return name and description of every recipe, component, signal or code; None for anything else."""
    match what:
        case "recipes":
            root = shipped("recipes")
            return [(str(p.relative_to(root).with_suffix("")), _headline(p)) for p in sorted(root.rglob("*.yaml"))]
        case "components":
            return [
                (f"{slot}/{name}", _component_line(cls))
                for slot in COMPONENT_SLOTS
                for name, cls in installed_components(slot).items()
            ]
        case "signals":
            return [(s.name, f"{s.kind} {s.dtype}: {s.doc}") for s in SIGNALS.values()]
        case "codes":
            from recipec.catalogue.code_pages import all_codes  # noqa: PLC0415 - imports every pass

            return [(c.code, f"{c.severity}: {c.name}") for c in all_codes().values()]
    return None


def aligned(entries: Sequence[tuple[str, str]]) -> str:
    """Write names and descriptions below each other."""
    width = max((len(name) for name, _ in entries), default=0)
    return "\n".join(f"{name:{width}}  {text}" for name, text in entries)


def described(name: str) -> dict[str, Any] | None:
    """Describe a shipped recipe or ``SLOT/COMPONENT`` for programs; None if there is no such name."""
    slot, _, kind = name.partition("/")
    if slot not in COMPONENT_SLOTS:
        text = page(name)
        return None if text is None else {"recipe": name, "text": text}
    cls = load_component(slot, kind)
    if cls is None:
        return None
    requires, provides = contract(cls)
    parameters = [asdict(key) for key in keys(cls) if key.name != "type"]
    doc = inspect.cleandoc(cls.__doc__ or "")
    return {
        "slot": slot,
        "type": kind,
        "doc": doc,
        "requires": requires,
        "provides": provides,
        "parameters": parameters,
    }


def page(name: str) -> str | None:
    """Return the text of a shipped recipe, or the page of ``SLOT/COMPONENT``."""
    slot, _, kind = name.partition("/")
    if slot in COMPONENT_SLOTS:
        cls = load_component(slot, kind)
        return None if cls is None else component_page(cls)
    path = shipped("recipes") / f"{name.removesuffix('.yaml')}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def load_component(slot: str, kind: str) -> type[Component] | None:
    """Return a component of recipec or of an installed package.

    Raises:
        RecipeError: RC151, the package cannot be imported.
    """
    try:
        return find_component(slot, kind)
    except Exception as error:  # a package may raise anything while it is imported
        raise RecipeError(broken_plugin(slot, kind, str(error), "", ())) from error


def component_page(cls: type[Component]) -> str:
    """Return the docstring, the signals and the parameters of a component as text."""
    lines = [f"{cls.slot} `{cls.type_name}`", "", inspect.cleandoc(cls.__doc__ or ""), ""]
    requires, provides = contract(cls)
    lines += [f"requires: {', '.join(requires) or 'nothing'}", f"provides: {', '.join(provides) or 'nothing'}", ""]
    lines.append("parameters:" if len(cls.model_fields) > 1 else "no parameters")
    lines += [f"  {key.name} ({key.type}; {key.presence}): {key.doc}" for key in keys(cls) if key.name != "type"]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a section, described in text.

    Example: ``Key("r", "an integer of at least 1", "8", "Rank of the adapters.")``.
    """

    name: str
    type: str
    default: str
    """The default value; ``""`` if there is none."""
    doc: str
    required: bool = False

    @property
    def presence(self) -> str:
        """Whether the key is required, or its default."""
        return "required" if self.required else f"default {self.default}" if self.default else "optional"


def keys(cls: type[Section]) -> list[Key]:
    """Return every key of a section, with its type and its default."""
    listed = []
    for field, info in cls.model_fields.items():
        name = info.alias or field
        doc = info.description or ""
        listed.append(Key(name, _type(cls, name, info), _default(info), doc, required=info.is_required()))
    return listed


def _type(cls: type[Section], name: str, info: FieldInfo) -> str:
    if is_path(info):
        return "a path"
    if is_signal(info):
        return "the name of a signal"
    kind = field_descriptions.field_type(cls, (name,))
    return kind.describe() if kind else "anything"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True)
    if isinstance(value, Component):
        return f"`{value.type_name}`"
    if value is None or isinstance(value, Section) or value in ({}, ()):
        return ""
    text = json.dumps(value, ensure_ascii=False)
    return text[1:-1] if value and isinstance(value, str) else text


def contract(cls: type[Component]) -> tuple[list[str], list[str]]:
    """Return the signals that a component requires and provides, with their conditions."""
    needed = [_condition(need) for need in cls._requires]
    return needed, [_condition(signal) for signal in cls._provides]


def _condition(declared: str | When) -> str:
    if isinstance(declared, str):
        return declared
    value = "" if declared.any_value else f" is {declared.value}"
    return f"{declared.signal} (when {declared.param}{value or ' is set'})"


def _headline(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "yaml-language-server" not in line:
            return line.removeprefix("# ")
    return ""


def _component_line(cls: type[Component] | Exception) -> str:
    if isinstance(cls, Exception):
        return f"(its package cannot be imported: {cls})"
    first = (cls.__doc__ or "").strip().splitlines()[0]
    return first + ("" if cls.available() else " (not implemented in this version)")

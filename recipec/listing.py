"""What there is to choose from: shipped recipes, components, signals, codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipec.component import Component, is_path, known
from recipec.shipped import shipped
from recipec.signals import SIGNALS
from recipec.spec.recipe import SLOTS

_SLOTS = [slot.name for slot in SLOTS] + ["machine"]


def listing(what: str) -> str | None:
    """List recipes, components, signals or codes; none for anything else."""
    match what:
        case "recipes":
            root = shipped("recipes")
            rows = [(str(p.relative_to(root).with_suffix("")), _headline(p)) for p in sorted(root.rglob("*.yaml"))]
        case "components":
            rows = [
                (f"{slot}/{name}", _first_line(cls) + ("" if cls.available() else " (not in this version)"))
                for slot in _SLOTS
                for name, cls in known(slot).items()
            ]
        case "signals":
            rows = [(s.name, f"{s.kind} {s.dtype}: {s.doc}") for s in SIGNALS.values()]
        case "codes":
            from recipec.explain import all_codes  # noqa: PLC0415 - imports every pass

            rows = [(c.code, f"{c.severity}: {c.name}") for c in all_codes().values()]
        case _:
            return None
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{name:{width}}  {text}" for name, text in rows)


def page(name: str) -> str | None:
    """Text of a shipped recipe, or the page of ``SLOT/COMPONENT``."""
    slot, _, kind = name.partition("/")
    if slot in _SLOTS and kind in known(slot):
        return component_page(known(slot)[kind])
    path = shipped("recipes") / f"{name.removesuffix('.yaml')}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def component_page(cls: type[Component]) -> str:
    """Docstring, contract and knobs of a component."""
    lines = [f"{cls.slot} `{cls.called}`", "", cls.__doc__ or "", ""]
    lines += [f"requires: {', '.join(_signals(cls._requires)) or 'nothing'}"]
    lines += [f"provides: {', '.join(_signals(cls._provides)) or 'nothing'}", "", "knobs:"]
    for name, info in cls.model_fields.items():
        if name == "type":
            continue
        default = "required" if info.is_required() else f"default {info.get_default(call_default_factory=True)!r}"
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        unit = f", {extra['unit']}" if extra.get("unit") else ""
        path = ", a path" if is_path(info) else ""
        lines.append(f"  {info.alias or name} ({default}{unit}{path}): {info.description}")
    return "\n".join(lines)


def _signals(declared: tuple[Any, ...]) -> list[str]:
    return [d if isinstance(d, str) else f"{d.signal} (when {d.knob})" for d in declared]


def starter(name: str) -> str | None:
    """A recipe to own: the shipped text, with its schema line pointing nowhere but to the released schema."""
    path = shipped("recipes") / f"{name.removesuffix('.yaml')}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _headline(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and "yaml-language-server" not in line:
            return line.removeprefix("# ")
    return ""


def _first_line(cls: type[Component]) -> str:
    return (cls.__doc__ or "").strip().splitlines()[0]

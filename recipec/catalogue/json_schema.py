r"""JSON Schemas of recipes, fragments and graphs, generated from the models; editors use them to complete and check.

Editors see one file at a time, so a schema is less strict than the compiler: keys that ``extends`` may provide are not
required, and every value may be an interpolation.  Each slot is a choice by ``type``; a mapping without a type may have
the parameters of any component of the slot, since its type may be the default or come from an extended file.
Components of installed packages are choices like those of recipec.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from recipec.catalogue.listing import load_component
from recipec.component import Component, component_names
from recipec.graph import Graph
from recipec.spec.recipe import COMPONENT_SLOTS, KEY_SLOTS, SLOT, SLOTS, Kind, Recipe, Stage, default_type

DRAFT = "https://json-schema.org/draft/2020-12/schema"
NAMES = ("recipe", "fragment", "graph")
KINDS: tuple[Kind, ...] = ("rl", "sft", "dpo", "rm")
INTERPOLATION = {"type": "string", "pattern": r"^\$\{.+\}$"}
NULL = {"type": "null"}
EXTENDS = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    "description": "Files to inherit from, the last one wins: `./file.yaml`, or `recipec:algorithms/grpo`.",
}
Schema = dict[str, Any]


def schema(which: str) -> Schema:
    """Return the JSON Schema of a ``recipe``, a ``fragment`` or a ``graph``.

    >>> schema("recipe")["properties"]["seed"]["default"]
    0

    Raises:
        KeyError: there is no schema of that name.
        RecipeError: RC151, a component's package cannot be imported.
    """
    return {"recipe": _recipe, "fragment": _fragment, "graph": _graph}[which]()


def text(which: str) -> str | None:
    """Return a schema as JSON text, or None if there is none with that name."""
    return json.dumps(schema(which), indent=1, ensure_ascii=False) + "\n" if which in NAMES else None


def write(folder: Path) -> list[Path]:
    """Write every schema into a directory; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in NAMES:
        path = folder / f"{name}.schema.json"
        path.write_text(str(text(name)), encoding="utf-8")
        paths.append(path)
    return paths


def _recipe() -> Schema:
    raw = _raw(Recipe)
    schema = _head("recipe", "A recipe for LLM post-training: a sequence of training stages.")
    schema["properties"] = {**_params(raw), "extends": EXTENDS}
    schema["properties"]["stages"] = {
        "type": "object",
        "description": raw["properties"]["stages"]["description"],
        "additionalProperties": {
            "oneOf": [*({"$ref": f"#/$defs/stage.{name}"} for name in (*KINDS, "unspecified")), NULL]
        },
    }
    schema["required"] = ["recipec"]
    schema["anyOf"] = [{"required": ["name", "stages"]}, {"required": ["extends"]}]
    schema["$defs"] = (
        _definitions() | {f"stage.{kind}": _stage(kind) for kind in KINDS} | {"stage.unspecified": _stage(None)}
    )
    return schema


def _fragment() -> Schema:
    schema = _head("fragment", "A part of a recipe or of a stage that other files extend.")
    everything = _params(_raw(Recipe)) | _stage(None)["properties"]
    schema["properties"] = {name: param for name, param in everything.items() if name != "stages"}
    schema["required"] = ["recipec"]
    schema["$defs"] = _definitions(strict=False)
    return schema


def _graph() -> Schema:
    return {"$schema": DRAFT, **TypeAdapter(Graph).json_schema(), "title": "recipec graph"}


def _head(name: str, description: str) -> Schema:
    head = {"$schema": DRAFT, "title": f"recipec {name}", "description": description}
    return {**head, "type": "object", "additionalProperties": False}


def _stage(kind: Kind | None) -> Schema:
    """Return the schema of a stage of one kind; ``None`` if the kind comes from an extended file."""
    raw = _raw(Stage)
    slots = [slot.name for slot in SLOTS if kind is None or slot.in_kind(kind) != "no"]
    params = {name: param for name, param in _params(raw).items() if name not in SLOT or name in slots}
    params["extends"] = EXTENDS
    for key, slot in Stage.written_inside.items():
        param = params.pop(key)
        if slot in params:
            params[slot] = _with_property(params[slot], key, param)
    schema: Schema = {"type": "object", "description": _first_paragraph(raw), "additionalProperties": False}
    if kind is None:
        return {**schema, "properties": {name: param for name, param in params.items() if name != "kind"}}
    params["kind"] = {"const": kind, "description": raw["properties"]["kind"]["description"]}
    for slot in slots:
        if default := default_type(slot, kind):
            params[slot] = {
                **params[slot],
                "description": f"{params[slot]['description']} Default type: `{default}`.",
            }
    needed = [{"required": ["from", "budget"]}, {"required": ["extends"]}]
    return {**schema, "properties": params, "required": ["kind"], "anyOf": needed}


def _with_property(levels: Schema, name: str, param: Schema) -> Schema:
    """Allow a mapping of levels a key that is not a level."""
    branches = levels["anyOf"]
    widened = [
        {**b, "properties": {**b.get("properties", {}), name: param}} if b.get("type") == "object" else b
        for b in branches
    ]
    return {**levels, "anyOf": widened}


def _definitions(*, strict: bool = True) -> Schema:
    """Return the definitions of sections, components and slots; in a fragment, no key is required."""
    definitions: Schema = {}
    for name, section in _raw(Recipe)["$defs"].items():
        if name not in {"Component", "Stage"}:
            definitions[name] = _object(section, strict=strict)
    for slot in COMPONENT_SLOTS:
        for name, cls in _components(slot).items():
            raw = _raw(cls)
            component = _object(raw, strict=strict)
            component["properties"]["type"] = {"const": name, "description": _first_paragraph(raw)}
            component["required"] = ["type", *component.get("required", ())]
            definitions[f"{slot}.{name}"] = component
            definitions |= {key: _object(nested, strict=strict) for key, nested in raw.get("$defs", {}).items()}
    definitions |= {slot: _slot(slot) for slot in COMPONENT_SLOTS}
    return {name: {"title": name.replace(".", " "), **definition} for name, definition in sorted(definitions.items())}


def _components(slot: str) -> dict[str, type[Component]]:
    """Return the components of a slot, those of installed packages included."""
    classes = ((name, load_component(slot, name)) for name in component_names(slot))
    return {name: cls for name, cls in classes if cls is not None}


def _slot(slot: str) -> Schema:
    """Return the choice of a slot: by type, or the parameters of any of its components without a type."""
    variants: dict[str, list[Schema]] = {}
    components = _components(slot)
    for cls in components.values():
        for key, param in _params(_raw(cls)).items():
            if key != "type" and param not in variants.setdefault(key, []):
                variants[key].append(param)
    params = {key: _either(schemas) for key, schemas in variants.items()}
    untyped = {"type": "object", "not": {"required": ["type"]}, "properties": params, "additionalProperties": False}
    # editors complete a name from `properties`: in a choice that lacks a required key they leave it out
    named = {"type": {"enum": list(components), "description": f"The {slot}'s type."}}
    # editors report an error for the closest choice: without a type, that must not be a missing type
    return {
        "properties": named,
        "oneOf": [untyped, *({"$ref": f"#/$defs/{slot}.{name}"} for name in components), INTERPOLATION, NULL],
    }


def _either(schemas: list[Schema]) -> Schema:
    """Combine the schemas of a parameter that several components have."""
    if len(schemas) == 1:
        return schemas[0]
    descriptions = dict.fromkeys(str(param["description"]) for param in schemas)
    bare = [{key: value for key, value in param.items() if key not in {"description", "default"}} for param in schemas]
    return {"anyOf": bare, "description": " / ".join(descriptions)}


def _raw(cls: type[BaseModel]) -> Schema:
    schema = cls.model_json_schema(by_alias=True)
    for name, info in cls.model_fields.items():  # pydantic drops the description of a section with a default
        if info.description:
            schema["properties"][info.alias or name].setdefault("description", info.description)
    return schema


def _first_paragraph(raw: Schema) -> str:
    return " ".join(str(raw.get("description", "")).partition("\n\n")[0].split())


def _object(raw: Schema, *, strict: bool) -> Schema:
    schema = {"type": "object", "description": _first_paragraph(raw), "additionalProperties": False}
    needed = {"required": raw["required"]} if strict and raw.get("required") else {}
    return {**schema, "properties": _params(raw), **needed}


def _params(raw: Schema) -> Schema:
    needed = raw.get("required", ())
    return {name: _param(name, param, needed=name in needed) for name, param in raw["properties"].items()}


def _param(name: str, raw: Schema, *, needed: bool) -> Schema:
    """Return the schema of a parameter: its values, an interpolation, or ``null`` for the default."""
    unit = f" Unit: {raw['unit']}." if raw.get("unit") else ""
    default = raw.get("default")
    shown = f" Default: `{json.dumps(default)}`." if isinstance(default, str | int | float) else ""
    schema: Schema = {"description": f"{raw.get('description', '')}{unit}{shown}"}
    if default is not None:
        schema["default"] = default
    branches = _branches(name, raw)
    if not needed and NULL not in branches:
        branches.append(NULL)
    return {**schema, **(branches[0] if len(branches) == 1 else {"anyOf": branches})}


def _branches(name: str, raw: Schema) -> list[Schema]:
    """Return the choices of a value, with an interpolation unless any string is allowed."""
    if "anyOf" in raw:
        branches: list[Schema] = []
        for choice in raw["anyOf"]:
            branches += [branch for branch in _branches(name, choice) if branch not in branches]
        return sorted(branches, key=lambda branch: branch in (INTERPOLATION, NULL))
    if "$ref" in raw:
        if raw["$ref"].endswith("/Component"):
            return [{"$ref": f"#/$defs/{KEY_SLOTS.get(name, name)}"}]
        return [{"$ref": raw["$ref"]}, INTERPOLATION]
    value = {key: part for key, part in raw.items() if key not in {"title", "description", "default", "unit"}}
    if value in (NULL, {"type": "string"}):
        return [value]
    if isinstance(raw.get("items"), dict):
        value["items"] = _choice(_branches(name, raw["items"]))
    if isinstance(raw.get("additionalProperties"), dict):
        # null removes an entry of an extended file
        inner = _branches(name, raw["additionalProperties"])
        value["additionalProperties"] = _choice(inner if NULL in inner else [*inner, NULL])
    if "prefixItems" in raw:
        value["prefixItems"] = [_choice(_branches(name, item)) for item in raw["prefixItems"]]
    return [value, INTERPOLATION]


def _choice(branches: list[Schema]) -> Schema:
    return branches[0] if len(branches) == 1 else {"anyOf": branches}

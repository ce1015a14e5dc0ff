"""Names of values, components and published settings of other tools, and what to write instead."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from recipec.diagnostics.phrases import folded


@dataclass(frozen=True, slots=True)
class ValueNames:
    """The tables of ``values.toml``."""

    values: Mapping[str, str]
    fragments: Mapping[str, str]
    components: Mapping[str, Mapping[str, str]]
    not_offered: Mapping[str, Mapping[str, str]]
    levels: Mapping[str, str]
    """Named levels that the tables of tools use, and their components."""
    parts: Mapping[str, str]
    """Components that converters set, by what they are for."""
    forms: Mapping[str, str]
    """Templates of prompts, by the names of forms of data."""
    unread: Mapping[str, Mapping[str, str]]
    """Tools that ``recipec import`` does not read: words of commands, names (all, or any of them), a last word."""
    vision: Mapping[str, str]
    """Parts of names of vision-language models, of families that are offered and of others."""


@cache
def value_names() -> ValueNames:
    """Read the tables; only needed after a mistake."""
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    return ValueNames(**tables)


def unread_tools() -> Mapping[str, Mapping[str, str]]:
    """Return how files of tools that are not read are known: by words of their command, or by names."""
    return value_names().unread


def foreign_value(value: str) -> str:
    """Return our name of a choice, or an empty text."""
    return value_names().values.get(value, "")


def foreign_component(name: str, slot: str) -> str:
    """Return our name of a component, or an empty text.

    >>> foreign_component("sdpa", "attention")
    'auto'
    """
    return value_names().components.get(slot, {}).get(name, "")


def fragment(name: str) -> str:
    """Return the fragment with the published settings that ``name`` stands for, or an empty text.

    >>> fragment("dr_grpo")
    'recipec:algorithms/dr_grpo'
    """
    known = value_names().fragments.get(name.lower().replace("-", "_"))
    return f"recipec:algorithms/{known}" if known else ""


def not_offered(name: str, of: str) -> str:
    """Return why a name of a slot or of a key does not exist here and what to use instead, or an empty text.

    >>> not_offered("OPO", "advantage").partition(":")[0]
    "OPO's length-weighted baseline is not offered"
    """
    return value_names().not_offered.get(of, {}).get(folded(name), "")


def reads_images(model: str) -> bool | None:
    """Whether a model's name is that of a vision-language model of an offered family; None: of another family.

    >>> reads_images("Qwen/Qwen2.5-VL-3B-Instruct"), reads_images("Qwen/Qwen3-8B"), reads_images("zai-org/GLM-4.1V-9B")
    (True, False, None)
    """
    known = value_names().vision
    if any(word in model.lower() for word in known["offered"].split()):
        return True
    return None if any(word in model.lower() for word in known["others"].split()) else False


def part(purpose: str) -> str:
    """Return the component that converters set for a purpose.

    >>> part("overlong")
    'length'
    """
    return value_names().parts[purpose]

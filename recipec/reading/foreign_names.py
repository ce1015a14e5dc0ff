"""Names of other tools, such as TRL, verl and axolotl, and the names to use here instead."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Foreign:
    """One name of another tool.

    Example: ``Foreign("rollout.n", "verl", "sampler.num_generations")``.
    """

    name: str
    tool: str
    ours: str
    """Path from the stage on; empty if there is no such setting."""
    note: str = ""

    @property
    def advice(self) -> str:
        """A sentence that tells which name to use."""
        owner = f"{self.tool}'" if self.tool.endswith("s") else f"{self.tool}'s"
        here = f"`{self.name}` is {owner} name; here it is `{self.ours}`" if self.ours else f"`{self.name}` is {owner}"
        return f"{here}: {self.note}" if self.note else here


@dataclass(frozen=True, slots=True)
class Names:
    """The tables of ``foreign_names.toml``."""

    keys: Mapping[str, Foreign]
    values: Mapping[str, str]
    fragments: Mapping[str, str]
    components: Mapping[str, Mapping[str, str]]


@cache
def names() -> Names:
    """Read the tables; only needed after a mistake."""
    tables = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
    keys = {name: Foreign(name, tool, *entry) for tool, own in tables["keys"].items() for name, entry in own.items()}
    return Names(keys, tables["values"], tables["fragments"], tables["components"])


def foreign_key(path: tuple[str | int, ...]) -> Foreign | None:
    """Find the longest known name that ``path`` ends with.

    >>> foreign_key(("stages", "learn", "rollout", "n")).ours
    'sampler.num_generations'
    """
    words = [str(part).replace("-", "_") for part in path[-3:]]
    found = (names().keys.get(".".join(words[start:])) for start in range(len(words)))
    return next(filter(None, found), None)


def foreign_leaves(value: Any, path: tuple[str | int, ...]) -> list[str]:
    """Return the advice on every known name below a section of another tool."""
    if not isinstance(value, Mapping):
        found = foreign_key(path)
        return [found.advice] if found else []
    return [advice for key, inner in value.items() for advice in foreign_leaves(inner, (*path, key))]


def foreign_value(value: str) -> str:
    """Return our name of a choice, or an empty text."""
    return names().values.get(value, "")


def foreign_component(name: str, slot: str) -> str:
    """Return our name of a component, or an empty text.

    >>> foreign_component("sdpa", "attention")
    'auto'
    """
    return names().components.get(slot, {}).get(name, "")


def fragment(name: str) -> str:
    """Return the fragment with the published settings that ``name`` stands for, or an empty text.

    >>> fragment("dr_grpo")
    'recipec:algorithms/dr_grpo'
    """
    known = names().fragments.get(name.lower().replace("-", "_"))
    return f"recipec:algorithms/{known}" if known else ""

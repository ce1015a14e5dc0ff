"""Advice on a key of another tool: what it is called here, that it cannot be written, or that it is not needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipec.diagnostics.model import Proposal
from recipec.diagnostics.phrases import folded
from recipec.reading.foreign.converters import Needless, Refused, convert, reads_alone
from recipec.reading.foreign.tables import Row, find, tools
from recipec.reading.foreign.values import foreign_component, value_names
from recipec.spec.recipe import SLOT, Levels

Words = tuple[str, ...]
_MOST = 3
"""Meanings of one name that are listed."""
_NAMED = ("evaluate", "stages")
"""Keys, next to the slots with levels, that hold parts by name."""
_OF_RECIPE = ("evaluate", "machine", "name", "seed", "use", "stages", "extends")
"""First words of paths that do not start in a stage."""


@dataclass(frozen=True, slots=True)
class Advice:
    """The advice on a key, and the edit that it proposes.

    Example: ``Advice("`lr` is verl's name; here it is `optimizer.learning_rate`", ("optimizer.learning_rate",))``.
    """

    text: str
    meant: tuple[str, ...] = ()
    """Paths that may have been meant, from the stage on or from the top."""
    proposal: Proposal | None = None


@dataclass(frozen=True, slots=True)
class _Alone:
    """A value of which nothing else is known."""

    row: Row
    kind: str
    devices: int = 1

    def get(self, name: str) -> Any:
        del name

    def choices(self, name: str) -> Mapping[str, Any]:
        tool = next(tool for tool in tools() if tool.name == self.row.tool)
        found: Mapping[str, Any] = tool.choices.get(name, {})
        return found


def shown(path: str) -> str:
    """Write a path of a table as a user writes it, with a name of their own for a named part.

    >>> shown("reward.kl.beta"), shown("advantage.whiten"), shown("evaluate.held_out.every")
    ('reward.NAME.beta', 'advantage.whiten', 'evaluate.NAME.every')
    """
    words = path.split(".")
    levels = words[0] in SLOT and SLOT[words[0]].levels
    if len(words) > 1 and (levels or words[0] in _NAMED) and words[1] not in Levels.model_fields:
        words[1] = "NAME"
    return ".".join(words)


def of_recipe(path: str) -> bool:
    """Whether a path of a table starts at the top of the recipe, not in a stage."""
    return path.split(".", maxsplit=1)[0] in _OF_RECIPE


def for_name(head: Words, tail: Words, value: Any, kind: str) -> Advice | None:
    """Advise on a name, of which ``head`` are the keys of the recipe around it and ``tail`` the rest; None if unknown.

    >>> for_name(("optimizer",), ("grad_clip",), 1.0, "rl").text
    "`grad_clip` is several tools' name; here it is `optimizer.max_grad_norm`"
    """
    rows = [row for row in find(head, tail, kind) if _has_place(row)]
    if not rows:
        return None
    written = ".".join(tail)
    pieces: list[str] = []
    meant: list[str] = []
    proposals: list[Proposal] = []
    meanings = _alike(rows)[:_MOST]
    for alike in meanings:
        row, owner = alike[0], _owner(written, alike, longer=len(meanings) > 1)
        text, paths, values = _told(alike, value, kind)
        pieces.append(f"{owner}{text}")
        meant += paths
        if values:
            places = " and ".join(f"`{shown(path)}`" for path in values)
            refused = f"{owner}; here it would be {places}, which this recipe cannot have"
            edits = tuple((path, json.dumps(to)) for path, to in values.items())
            proposals.append(Proposal(edits, pieces[-1], refused, exact=reads_alone(row)))
    proposal = proposals[0] if len(pieces) == 1 and proposals else None
    return Advice("; ".join(pieces), tuple(meant), proposal)


def _has_place(row: Row) -> bool:
    return row.verdict != "kept" or bool(row.to or row.note)


def _alike(rows: Sequence[Row]) -> list[list[Row]]:
    """Group rows that say the same; those that are kept come first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.verdict, row.to, row.note), []).append(row)
    kept = [group for (verdict, _, _), group in groups.items() if verdict == "kept"]
    return kept or [*groups.values()]


def _owner(written: str, alike: Sequence[Row], *, longer: bool) -> str:
    """Name the tool of a key; where the word has several meanings, the longer name too."""
    names = list(dict.fromkeys(row.tool for row in alike))
    whose = [f"{name}'" if name.endswith("s") else f"{name}'s" for name in names]
    if "several tools" in names or len(names) > _MOST:
        whose = ["several tools'"]
    row = alike[0]
    within = f" `{row.name}`" if longer and len(names) == 1 and row.name != written else ""
    return f"`{written}` is {' and '.join([', '.join(whose[:-1]), whose[-1]]) if whose[1:] else whose[0]} name{within}"


def _told(alike: Sequence[Row], value: Any, kind: str) -> tuple[str, list[str], dict[str, Any]]:
    """Say what rows of one meaning mean here.

    Returns:
        The rest of the sentence, the paths that were meant, and the values that it proposes.
    """
    row = alike[0]
    note = f": {row.note.removeprefix('~')}" if row.note else ""
    if row.verdict == "missing":
        return f" and cannot be written here{note}", [], {}
    if row.verdict == "unneeded":
        return f" and is not needed here{note}", [], {}
    level = value_names().levels.get(".".join(row.to.split(".")[:2]), "")
    of = f" of a level `{{type: {level}}}`" if level and "level" not in row.note else ""
    plain = f"; here it is `{shown(row.to)}`{of}{note}"
    if not reads_alone(row):
        return plain, [row.to], {row.to: value} if _placed(row, value) else {}
    problem = ""
    values: dict[str, Any] = {}
    for one in alike:
        try:
            values = convert(one, value, _Alone(one, kind), alone=True)
        except Needless:
            break
        except Refused as refused:
            problem = problem or str(refused)
        else:
            break
    else:
        plain = f"; here it is `{shown(row.to)}`{of}" + (f": {problem}" if problem else note)
    if values in ({}, {row.to: value}):
        return plain, [row.to], values
    edits = " and ".join(f"`{shown(path)}: {_flow(to)}`" for path, to in values.items())
    return f"; here it is {edits}{of}{note}", [*values], values


def _flow(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _placed(row: Row, value: Any) -> bool:
    """Whether a value can be tried at the place of a row, though it is another value there."""
    return isinstance(value, str | int | float) and "." in row.to and row.to == shown(row.to)


def component_key(slot: str, key: str, value: str) -> str:
    """Return the component that another tool's key for the type of a slot names, or an empty text.

    >>> component_key("environment", "env_name", "Webshop")
    'webshop'
    """
    for row in find((slot,), (key,), ""):
        words = row.to.split(".")
        if row.verdict == "kept" and words[0] == slot and words[-1] == "type":
            try:
                found = convert(row, value, _Alone(row, ""))
            except (Needless, Refused):
                return foreign_component(folded(value), slot)
            return str(found.get(row.to, value))
    return ""


def leaves(value: Any, head: Words, tail: Words, kind: str) -> Iterator[tuple[Words, Advice | None]]:
    """Yield the names below a section of another tool, with the advice on each."""
    if not isinstance(value, Mapping) or not value:
        yield tail, for_name(head, tail, value, kind)
        return
    for key, inner in value.items():
        yield from leaves(inner, head, (*tail, str(key)), kind)


def for_section(value: Mapping[str, Any], head: Words, tail: Words, kind: str) -> Advice:
    """Tell every name of a section of another tool: what it is called, and what has no name here or needs none."""
    kept: list[str] = []
    others: dict[str, list[str]] = {}
    meant: list[str] = []
    for words, advice in leaves(value, head, tail, kind):
        name = ".".join(words[len(tail) :]) or words[-1]
        if advice is None:
            others.setdefault("not known", []).append(name)
        elif advice.meant:
            _, _, remedy = advice.text.partition("; here it is ")
            kept.append(f"`{name}` is {remedy or f'`{shown(advice.meant[0])}`'}")
            meant += advice.meant
        else:
            _, _, remedy = advice.text.partition(" and ")
            others.setdefault(remedy, []).append(name)
    if not kept and [*others] == ["not known"]:
        return Advice("")
    rest = [f"{', '.join(f'`{name}`' for name in names)}: {remedy}" for remedy, names in others.items()]
    return Advice("; ".join([*kept, *rest]), tuple(meant))

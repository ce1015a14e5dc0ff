"""Advice on a key of another tool: what it is called here, that it cannot be written, or that it is not needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from recipec.diagnostics.model import Proposal
from recipec.diagnostics.phrases import folded
from recipec.reading.foreign.converters import Needless, Refused, convert, is_refused, reads_alone
from recipec.reading.foreign.tables import Row, find, tools
from recipec.reading.foreign.values import foreign_component, fragment, not_offered, value_names
from recipec.spec.recipe import SLOT, Levels

Words = tuple[str, ...]
_FEW = 2
"""Settings that are listed; more have a fragment, where there is one."""
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


def for_name(head: Words, tail: Words, value: Any, kind: str, others: Words = ()) -> Advice | None:
    """Advise on a name, of which ``head`` are the keys of the recipe around it and ``tail`` the rest; None if unknown.

    ``others`` are further keys next to it that nothing reads.

    >>> for_name(("optimizer",), ("grad_clip",), 1.0, "rl").text
    "`grad_clip` is several tools' name; here it is `optimizer.max_grad_norm`"
    """
    rows = [row for row in find(head, tail, kind, others) if _has_place(row)]
    if not rows:
        return None
    written = ".".join(tail)
    pieces: list[str] = []
    meant: list[str] = []
    proposals: list[Proposal] = []
    meanings = _merged(_told_best([_told(alike, value, kind) for alike in _alike(rows)]))[:_MOST]
    for one in meanings:
        owner, values = _owner(written, one.rows, longer=len(meanings) > 1), one.values
        pieces.append(f"{owner}{one.text}{_noted(one.notes)}")
        meant += one.paths
        if values:
            places = " and ".join(f"`{shown(path)}`" for path in values)
            refused = f"{owner}; here it would be {places}, which this recipe cannot have"
            edits = tuple((path, json.dumps(to)) for path, to in values.items())
            proposals.append(Proposal(edits, pieces[-1], refused, exact=all(map(reads_alone, one.rows))))
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
    return [group for group in kept if not is_refused(group[0])] or kept or [*groups.values()]


@dataclass(slots=True)
class _Meaning:
    """What rows that say the same mean here."""

    rows: list[Row]
    text: str
    """The rest of the sentence, without the note."""
    notes: list[tuple[str, str]]
    """Tools, and what differs there."""
    paths: Sequence[str] = ()
    values: dict[str, Any] = field(default_factory=dict)
    """The values that it proposes."""
    unknown: bool = False
    """Whether the tool has no such value."""


def _told_best(meanings: Sequence[_Meaning]) -> Sequence[_Meaning]:
    """Leave out the tools that do not know the value, where another does."""
    known = any(one.paths and not one.unknown for one in meanings)
    return [one for one in meanings if not (known and one.unknown)]


def _merged(meanings: Sequence[_Meaning]) -> list[_Meaning]:
    """Make one meaning of those that give the same values."""
    found: dict[str, _Meaning] = {}
    for one in meanings:
        key = json.dumps(one.values, sort_keys=True, default=str) if one.values else f"{one.text} {one.notes}"
        before = found.setdefault("unneeded" if one.rows[0].verdict == "unneeded" else key, one)
        if before is not one:
            before.rows += one.rows
            before.notes += one.notes if before.rows[0].verdict == "kept" else []
    return [*found.values()]


def _noted(notes: Sequence[tuple[str, str]]) -> str:
    """Write notes; those of single tools have their name, unless they are alone or begin the note of another.

    >>> _noted([("A", ""), ("B", "steps here")]), _noted([("A", "rows there"), ("B", "tokens there")])
    (': steps here', ': rows there (A); tokens there (B)')
    """
    given = {note: tool for tool, note in notes if note}
    kept = [note for note in given if not any(other != note and other.startswith(note) for other in given)]
    return ": " + "; ".join(f"{note} ({given[note]})" if kept[1:] else note for note in kept) if kept else ""


def _owner(written: str, alike: Sequence[Row], *, longer: bool) -> str:
    """Name the tool of a key; where the word has several meanings, the longer name too."""
    names = list(dict.fromkeys(row.tool for row in alike))
    whose = [f"{name}'" if name.endswith("s") else f"{name}'s" for name in names]
    if "several tools" in names or len(names) > _MOST:
        whose = ["several tools'"]
    row = alike[0]
    within = f" `{row.name}`" if longer and len(names) == 1 and row.name != written else ""
    return f"`{written}` is {' and '.join([', '.join(whose[:-1]), whose[-1]]) if whose[1:] else whose[0]} name{within}"


def _told(alike: Sequence[Row], value: Any, kind: str) -> _Meaning:
    """Say what rows of one meaning mean here."""
    row = alike[0]
    note = row.note.removeprefix("~")

    def meaning(text: str, note: str, paths: Sequence[str] = (), values: Mapping[str, Any] = _NOTHING) -> _Meaning:
        return _Meaning([*alike], text, [(_tools(alike), note)], paths, {**values})

    if row.verdict != "kept" or is_refused(row):
        return meaning(f" and {'is not needed' if row.verdict == 'unneeded' else 'cannot be written'} here", note)
    level = value_names().levels.get(".".join(row.to.split(".")[:2]), "")
    of = f" of a level `{{type: {level}}}`" if level and "level" not in row.note else ""
    place = f"; here it is `{shown(row.to)}`{of}"
    if not reads_alone(row):
        return meaning(place, note, [row.to], {row.to: value} if _placed(row, value) else {})
    values, problem = _values(alike, value, kind)
    if row.how.startswith("choice") and str(value).startswith(str(values.get(row.to, value))):
        note = ""  # of other values
    if values == {} and not problem:
        return meaning(f"{place}, which without it has this value: drop the key", note, [row.to])
    if values in ({}, {row.to: value}):
        other = not_offered(str(value), row.to.rpartition(".")[2]) if problem else ""
        return replace(meaning(place, other or problem or note, [row.to], values), unknown=bool(problem))
    published = fragment(str(value)) if len(values) > _FEW else ""
    if published:
        return meaning(f"; here it is `extends: [{published}]`", "", [*values], values)
    edits = " and ".join(f"`{shown(path)}: {_flow(to)}`" for path, to in values.items())
    return meaning(f"; here it is {edits}{of}", note, [*values], values)


def _values(alike: Sequence[Row], value: Any, kind: str) -> tuple[dict[str, Any], str]:
    """Return the values that the first row gives which has some, or why there are none."""
    problem = ""
    for row in alike:
        try:
            return convert(row, value, _Alone(row, kind), alone=True), ""
        except Needless as needless:
            return {}, str(needless) if "`" in str(needless) else ""
        except Refused as error:
            problem = problem or str(error)
    return {}, problem


_NOTHING: Mapping[str, Any] = {}


def _tools(rows: Sequence[Row]) -> str:
    return " and ".join(dict.fromkeys(row.tool for row in rows))


def _flow(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _placed(row: Row, value: Any) -> bool:
    """Whether a value can be tried at the place of a row, though it is another value there."""
    section = row.how.split(" ")[0] in {"adapter", "lora"}  # which has keys of its own
    return isinstance(value, str | int | float) and "." in row.to and row.to == shown(row.to) and not section


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

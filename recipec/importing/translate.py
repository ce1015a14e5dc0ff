"""Look up every name of a file in the table of its tool, and note what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Literal

from recipec.importing.recognise import Recognised
from recipec.importing.sources import Entry, ForeignFile
from recipec.reading.foreign.advice import shown
from recipec.reading.foreign.converters import Needless, Refused, Several, convert
from recipec.reading.foreign.tables import Row
from recipec.reading.foreign.values import part

Verdict = Literal["same", "other", "assumed", "missing", "unneeded", "unknown"]
Origin = Literal["file", "default", "trainer", "assumed"]
HINT = "~"
"""Begins a note that is for those who type the name in a recipe, not for those who import a file of the tool."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of the recipe, and where it comes from.

    Example: ``Setting("loss.epsilon", 0.2, "actor_rollout_ref.actor.clip_ratio", 12)``.
    """

    path: str
    value: Any
    name: str
    """The name in the file, or what says it instead."""
    line: int = 0
    """0 where the file does not say it."""
    note: str = ""
    origin: Origin = "file"


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one name of the file."""

    name: str
    value: Any
    line: int
    verdict: Verdict
    paths: tuple[str, ...] = ()
    text: str = ""


@dataclass(slots=True)
class Translation:
    """The values of a recipe and what became of each name."""

    found: Recognised
    kind: str
    settings: dict[str, Setting] = field(default_factory=dict)
    fates: list[Fate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _File:
    """What converters may look at: the file, then the tool's defaults."""

    found: Recognised
    values: Mapping[str, Any]
    kind: str
    devices: int

    def get(self, name: str) -> Any:
        return self.values.get(name, self.found.trainer.defaults.get(name))

    def choices(self, name: str) -> Mapping[str, Any]:
        known: Mapping[str, Any] = self.found.tool.choices.get(name, {})
        return known


def translate(read: ForeignFile, found: Recognised, devices: int = 1) -> Translation:
    """Translate every name of a file, then what the tool does where the file says nothing."""
    tool, trainer = found.tool, found.trainer
    entries = _last(read.entries) if read.form == "shell" else _together(read.entries, found)
    values = {entry.name: entry.value for entry in entries}
    given = _File(found, values, trainer.kind, devices)
    made = Translation(found, trainer.kind)
    for entry in entries:
        row = tool.row(entry.name, trainer.kind, trainer)
        if row is None and entry.name.startswith("no_") and entry.value is True and tool.knows(entry.name[3:]):
            entry = replace(entry, name=entry.name[3:], value=False)  # noqa: PLW2901 - as argparse reads it
            row = tool.row(entry.name, trainer.kind, trainer)
        if row is not None:
            _take(made, entry, row, given, several=read.form != "shell")
        else:
            made.fates.append(_without_row(entry, read, found))
    _defaults(made, given, values)
    for path, value in trainer.sets.items():
        made.settings.setdefault(path, Setting(path, value, trainer.title, origin="trainer"))
    for path, (value, note) in trainer.assumes.items():
        if not any(_stands_for(known, path) for known in made.settings):
            made.settings[path] = Setting(path, value, "assumed", note=note, origin="assumed")
            made.fates.append(Fate(shown(path), value, 0, "assumed", text=note))
    made.fates += [Fate(trainer.title, None, 0, "missing", text=text) for text in trainer.lost]
    return made


def _without_row(entry: Entry, read: ForeignFile, found: Recognised) -> Fate:
    """Say what a name is that the table does not have for this kind of training."""
    if entry.value is None:
        return Fate(entry.name, None, entry.line, "unneeded", text="it is not set")
    if entry.name in read.launcher:
        return Fate(entry.name, entry.value, entry.line, "unneeded", text="it is an argument of the launcher")
    if found.tool.knows(entry.name):
        text = f"{found.trainer.title} does not read it"
        return Fate(entry.name, entry.value, entry.line, "unneeded", text=text)
    return Fate(entry.name, entry.value, entry.line, "unknown", text=f"not a name of {found.tool.name}")


def _stands_for(known: str, path: str) -> bool:
    """Whether a path that is set makes an assumed one needless: another reward, or another source of data."""
    if path.startswith("reward."):
        level = known.startswith("reward.") and known.endswith((".type", ".name"))
        return level and not known.startswith(("reward.kl.", "reward.overlong."))
    return known in {path, "data.hub", "data.path", "data.type"}


def _last(entries: Sequence[Entry]) -> list[Entry]:
    """Keep the last of each name, as command lines do."""
    return list({entry.name: entry for entry in entries}.values())


def _together(entries: Sequence[Entry], found: Recognised) -> list[Entry]:
    """Make one entry with a list of the places of data that a list of mappings names one by one."""
    made: dict[str, Entry] = {}
    rest = []
    for entry in entries:
        row = found.tool.row(entry.name, found.trainer.kind, found.trainer)
        if row is None or row.how not in {"dataset", "path"} or entry.value is None:
            rest.append(entry)
        elif entry.name in made:
            first = made[entry.name]
            held = first.value if isinstance(first.value, list) else [first.value]
            made[entry.name] = replace(first, value=[*held, entry.value])
        else:
            made[entry.name] = entry
    return sorted([*rest, *made.values()], key=lambda entry: entry.line)


def _take(made: Translation, entry: Entry, row: Row, given: _File, *, several: bool) -> None:
    """Translate one name of the file."""

    def say(verdict: Verdict, text: str, paths: Sequence[str] = ()) -> None:
        made.fates.append(Fate(entry.name, entry.value, entry.line, verdict, tuple(map(shown, paths)), text))

    if row.verdict != "kept":
        off = row.verdict == "missing" and _is_off(entry.value)
        say("unneeded" if off else row.verdict, "it is off" if off else row.note)
        return
    values, first = _converted(entry, row, given, say)
    if values is None:
        return
    unknown = [text for text in entry.unresolved if text in str(list(values.values()))]
    if unknown:
        say("missing", f"{', '.join(f'`{text}`' for text in unknown)} is known to a shell alone", [*values])
        return
    for path, value in values.items():
        before = made.settings.get(path)
        if several and before is not None and before.name == entry.name and before.value != value:
            say("missing", f"it is given several times, and a stage has one `{shown(path)}`")
            return
    unchanged = row.how.startswith("choice") and values == {row.to: entry.value}
    notes = [row.note] if row.note and not row.note.startswith(HINT) and not unchanged else []
    if first:
        notes.insert(0, first)
    if entry.unresolved:
        notes.append(f"without {', '.join(f'`{text}`' for text in entry.unresolved)}: relative to the recipe")
    for path, value in values.items():
        made.settings[path] = Setting(path, value, entry.name, entry.line, "; ".join(notes))
    say("other" if notes else "same", "; ".join(notes), [*values])


Say = Callable[..., None]


def _converted(entry: Entry, row: Row, given: _File, say: Say) -> tuple[dict[str, Any] | None, str]:
    """Return the values of a name, or say why it has none; and what holds where only the first of several is taken."""
    try:
        return convert(row, entry.value, given), ""
    except Several as several:
        return mixture(several.each), ""
    except Refused as reason:
        say("missing", str(reason) or row.note)
    except Needless as reason:
        say("unneeded", str(reason))
    return None, ""


def mixture(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the data of several sources, each under the name of its file or set.

    >>> sorted(mixture([{"data.path": "gsm8k/train.parquet"}, {"data.hub": "org/math"}]))
    ['data.sources.math.hub', 'data.sources.train.path', 'data.type']
    """
    made: dict[str, Any] = {}
    for number, values in enumerate(each, 1):
        ((path, value), *_) = values.items()
        head, _, key = path.rpartition(".")
        name = re.sub(r"[^a-z0-9]+", "_", PurePath(str(value)).stem.lower()).strip("_")
        name = name if name[:1].isalpha() else f"source_{number}"
        name = f"{name}_{number}" if any(f".sources.{name}." in known for known in made) else name
        made |= {f"{head}.type": part("several"), f"{head}.sources.{name}.{key}": value}
    return made


def _is_off(value: Any) -> bool:
    """Whether a value switches off what it is the value of."""
    return value in (None, False, 0, -1, "", "null", "none", "no", "disabled", [], {}) and value is not True


def _defaults(made: Translation, given: _File, values: Mapping[str, Any]) -> None:
    """Write what the tool does where the file says nothing, if it is not what happens here anyway."""
    tool, trainer = made.found.tool, made.found.trainer
    for name, value in trainer.defaults.items():
        row = tool.row(name, trainer.kind, trainer)
        if row is None or row.verdict != "kept" or values.get(name) is not None:
            continue
        if row.how == "choice" and row.to in made.settings:
            continue  # given under another name
        try:
            found = convert(row, value, given)
        except Needless:
            continue
        except Refused as reason:
            if row.to not in made.settings:
                made.fates.append(Fate(name, value, 0, "missing", (shown(row.to),), str(reason)))
            continue
        for path, to in found.items():
            made.settings.setdefault(path, Setting(path, to, name, 0, row.note.lstrip(HINT), "default"))


def without(made: Translation, path: str, reason: str) -> Translation:
    """Take a value out that the recipe cannot have, and say so of its name."""
    gone = made.settings[path]
    settings = {known: setting for known, setting in made.settings.items() if known != path}
    fates = [fate for fate in made.fates if not (fate.line == gone.line and fate.name == gone.name)]
    if gone.origin in {"file", "trainer"}:
        fates.append(Fate(gone.name, gone.value, gone.line, "missing", (shown(path),), reason))
    return replace(made, settings=settings, fates=fates)

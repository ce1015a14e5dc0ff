"""Look up every name of a file in the table of its tool, and note what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, Literal

from recipec.importing.data_sets import gathered, last, mixture, together
from recipec.importing.recognise import Recognised, is_own
from recipec.importing.sources import Entry, ForeignFile
from recipec.reading.foreign.advice import shown
from recipec.reading.foreign.converters import Inactive, Needless, Noted, Off, Refused, Several, convert, on
from recipec.reading.foreign.tables import Row

Verdict = Literal["same", "other", "assumed", "earlier", "missing", "unneeded", "unknown"]
Origin = Literal["file", "default", "trainer", "assumed"]
SEVERAL = "ray"
"""What starts processes on several nodes."""
_NEAR = 0.9
"""How alike a name is that may have been meant."""
OF_A_FORK = ", which refuses it without `+`"
"""Of a name that the tool could not have been started with."""
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
    off: set[str] = field(default_factory=set)
    """Paths that a name of the file switches off."""


@dataclass(frozen=True, slots=True)
class _File:
    """What converters may look at: the file, then the tool's defaults."""

    found: Recognised
    values: Mapping[str, Any]
    kind: str
    known_devices: int
    """0 where nothing says it."""
    missed: list[str] = field(default_factory=list)
    """What a converter reads, and nothing says."""

    @property
    def devices(self) -> int:
        if not self.known_devices:
            self.missed.append("devices")
        return self.known_devices or 1

    def get(self, name: str) -> Any:
        return self.values.get(name, self.found.trainer.defaults.get(name))

    def choices(self, name: str) -> Mapping[str, Any]:
        known: Mapping[str, Any] = self.found.tool.choices.get(name, {})
        return known


def translate(read: ForeignFile, found: Recognised, devices: int = 0) -> Translation:
    """Translate every name of a file, then what the tool does where the file says nothing; 0 devices: not known."""
    tool, trainer = found.tool, found.trainer
    entries = last(read.entries) if read.form == "shell" else together(gathered(read.entries, found), found)
    values = {entry.name: entry.value for entry in entries}
    values |= {name: values[old] for old, present in tool.aliases.items() if old in values for name in present}
    file = _File(found, values, trainer.kind, devices)
    made = Translation(found, trainer.kind)
    for entry in entries:
        row = tool.row(entry.name, trainer.kind, trainer)
        if row is None and entry.name.startswith("no_") and entry.value is True and tool.knows(entry.name[3:]):
            entry = replace(entry, name=entry.name[3:], value=False)  # noqa: PLW2901 - as argparse reads it
            row = tool.row(entry.name, trainer.kind, trainer)
        if row is not None:
            _take(made, entry, row, file, several=read.form != "shell")
        else:
            made.fates.append(_without_row(entry, read, found))
    _defaults(made, file, values)
    for path, value in trainer.sets.items():
        made.settings.setdefault(path, Setting(path, value, trainer.title, origin="trainer"))
    for path, (value, note) in trainer.assumes.items():
        if not any(_stands_for(known, path) for known in made.settings):
            made.settings[path] = Setting(path, value, "assumed", note=note, origin="assumed")
            made.fates.append(Fate(shown(path), value, 0, "assumed", text=note))
    _spread(made, read)
    if file.missed and "machine.devices" not in made.settings:
        made.fates.append(Fate("machine.devices", 1, 0, "assumed", text=_ONE_DEVICE))
    made.fates += [Fate(trainer.title, None, 0, "missing", text=text) for text in trainer.lost]
    made.fates += [
        Fate(name, file.get(name), 0, "earlier", text=text)
        for name, (text, unless) in trainer.earlier.items()
        if values.get(name) is None and not on(file.get(unless))
    ]
    made.fates += [Fate(text, None, line, "assumed", text=what) for line, text, what in read.assumed]
    made.fates += [
        Fate(word, None, 0, "missing", text="a script that this one starts is not read: import it with these arguments")
        for before, word in pairwise(read.words)
        if word.endswith(".sh") and before not in {"source", "."}
    ]
    if read.program and not is_own(read.program, tool):
        made.fates.append(Fate(read.program, None, 0, "assumed", text=_OWN_PROGRAM.format(tool.name, trainer.title)))
    told = {str(entry.value) for entry in entries}
    made.fates += [Fate(file, None, 0, "missing", text=_UNREAD) for file in read.settings if file not in told]
    return made


_OWN_PROGRAM = "it is not a program of {}: it is read as {}, and what its code does otherwise is not known"
_ONE_DEVICE = "the batch is multiplied by the number of devices that the file is started on: give it with `--devices`"
_UNREAD = "the settings in this file are not read, and count as defaults: import it, too"


def _spread(made: Translation, read: ForeignFile) -> None:
    """Have the devices and nodes of a script's launcher."""
    if read.spread is None or read.spread.devices * read.spread.nodes == 1:
        return
    name, line = read.spread.name, next(e.line for e in reversed(read.entries) if e.name == read.spread.name)
    values: dict[str, Any] = {"machine.devices": read.spread.devices}
    if read.spread.nodes > 1:
        values |= {"machine.nodes": read.spread.nodes, "machine.launcher": SEVERAL}
    for path, value in values.items():
        made.settings[path] = Setting(path, value, name, line)
    known = [index for index, fate in enumerate(made.fates) if (fate.name, fate.line) == (name, line)]
    for index in known:
        made.fates[index] = replace(made.fates[index], verdict="same", paths=tuple(values), text="")


def _without_row(entry: Entry, read: ForeignFile, found: Recognised) -> Fate:
    """Say what a name is that the table does not have for this kind of training."""
    if entry.value is None:
        return Fate(entry.name, None, entry.line, "unneeded", text="it is not set")
    if entry.name in read.launcher:
        lost = str(entry.value) in read.settings
        known = "its settings are read, and arguments come after them" if str(entry.value) in read.settings_read else ""
        text = _UNREAD if lost else known or "it is an argument of the launcher"
        return Fate(entry.name, entry.value, entry.line, "missing" if lost else "unneeded", text=text)
    if entry.name in read.referred:
        return Fate(entry.name, entry.value, entry.line, "unneeded", text="other names refer to it")
    if found.tool.knows(entry.name):
        text = f"{found.trainer.title} does not read it"
        return Fate(entry.name, entry.value, entry.line, "unneeded", text=text)
    near = get_close_matches(entry.name, found.tool.index, 1, _NEAR)
    text = f"not a name of {found.tool.name}" + (f" (`{near[0]}` is)" if near else "")
    if found.tool.strict and read.form == "shell" and not entry.added:
        text += OF_A_FORK
    return Fate(entry.name, entry.value, entry.line, "unknown", text=text)


def _stands_for(known: str, path: str) -> bool:
    """Whether a path that is set makes an assumed one needless: another reward, or another source of data."""
    if path.startswith("reward."):
        level = known.startswith("reward.") and known.endswith(".type")
        return level and not known.startswith(("reward.kl.", "reward.overlong."))
    return known == path or (path == "data.path" and known in {"data.hub", "data.type"})


def _take(made: Translation, entry: Entry, row: Row, file: _File, *, several: bool) -> None:
    """Translate one name of the file."""

    def say(verdict: Verdict, text: str, paths: Sequence[str] = ()) -> None:
        made.fates.append(Fate(entry.name, entry.value, entry.line, verdict, tuple(map(shown, paths)), text))

    if row.verdict != "kept":
        harmless = _harmless(entry.value, row, file) if row.verdict == "missing" else ""
        say("unneeded" if harmless else row.verdict, harmless or row.note)
        return
    values = _converted(made, entry, row, file, say)
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
    note = "; ".join(_notes(entry, row, values))
    for path, value in values.items():
        _set(made, Setting(path, value, entry.name, entry.line, note), merged=row.how.startswith("flag_list"))
    say("other" if note else "same", note, [*values])


def _notes(entry: Entry, row: Row, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the notes on a value that is kept: that of its row, unless the value is the same here."""
    if row.note and not row.note.startswith(HINT) and not _unchanged(row, entry.value, values):
        yield row.note
    if isinstance(values, Noted):
        yield values.note
    if entry.unresolved and not row.how.startswith("flag"):
        place = ": relative to the recipe" if row.how != "name" else ""
        yield f"without {', '.join(f'`{text}`' for text in dict.fromkeys(entry.unresolved))}{place}"


def _unchanged(row: Row, value: Any, values: Mapping[str, Any]) -> bool:
    """Whether the note of a row is on other values than this one."""
    ours, how = values.get(row.to), row.how.split(" ")[0]
    if how.startswith("choice"):
        return str(value) == str(ours) or str(value).startswith(f"{ours}_with")
    return (how in _SAME and ours == value) or (how == "mixer" and not any(path.endswith(".limit") for path in values))


_SAME = {"keep", "samples", "verl_minibatch", "verl_warmup"}
"""Converters with a note on values that they change."""


def _set(made: Translation, setting: Setting, *, merged: bool) -> None:
    """Set a value; what another name gave before is kept in a list, or decided otherwise."""
    before = made.settings.get(setting.path)
    if before is not None and not str(setting.value).startswith(str(before.value)):
        if merged:
            setting = replace(setting, value=[*before.value, *setting.value])
        else:
            _replaced(made, before, setting)
    made.settings[setting.path] = setting


def _replaced(made: Translation, before: Setting, after: Setting) -> None:
    """Say of a name that another one decides what it was for."""
    for index, fate in enumerate(made.fates):
        if (fate.name, fate.line) == (before.name, before.line) and fate.paths[:1] == (shown(before.path),):
            text = f"`{after.name}`, line {after.line}, decides, and there is one key for both"
            made.fates[index] = replace(fate, verdict="missing", text=text)


Say = Callable[..., None]


def _converted(made: Translation, entry: Entry, row: Row, file: _File, say: Say) -> dict[str, Any] | None:
    """Return the values of a name, or say why it has none."""
    try:
        return convert(row, entry.value, file)
    except Several as several:
        return mixture(several.each)
    except Refused as reason:
        say("missing", str(reason) or row.note)
    except Needless as reason:
        if isinstance(reason, Off) and entry.value is not None:
            made.off.add(row.to)
        by_value = row.how.split(" ")[0] in _OFF_BY_VALUE and not isinstance(reason, Inactive)
        hidden = entry.unresolved and by_value
        say(
            "missing" if hidden else "unneeded", f"`{entry.value}` is known to a shell alone" if hidden else str(reason)
        )
    return None


_OFF_BY_VALUE = {"positive", "nonzero", "above_one", "nodes"}
"""Converters that judge by the value whether it need not be written."""


def _harmless(value: Any, row: Row, file: _File) -> str:
    """Say why a value loses nothing that cannot be written, or return an empty text."""
    if _is_off(value):
        return "it is off"
    if row.usual and str(value).lower() == row.usual.lower():
        return "it is what happens here, too"
    return f"`{row.switch}` is off" if row.switch and not on(file.get(row.switch)) else ""


def _is_off(value: Any) -> bool:
    """Whether a value switches off what it is the value of."""
    return value in (None, False, 0, -1, "", "null", "none", "no", "disabled", [], {}) and value is not True


def _defaults(made: Translation, file: _File, values: Mapping[str, Any]) -> None:
    """Write what the tool does where the file says nothing, if it is not what happens here anyway."""
    tool, trainer = made.found.tool, made.found.trainer
    for name, value in trainer.defaults.items():
        row = tool.row(name, trainer.kind, trainer)
        if row is None or row.verdict != "kept" or values.get(name) is not None or row.to in made.off:
            continue
        if row.how.startswith("choice") and row.to in made.settings:
            continue  # given under another name
        try:
            found = convert(row, value, file)
        except Needless:
            continue
        except Refused as reason:
            if row.to not in made.settings:
                made.fates.append(Fate(name, value, 0, "missing", (shown(row.to),), str(reason)))
            continue
        note = "" if _unchanged(row, value, found) else row.note.lstrip(HINT)
        for path, to in found.items():
            made.settings.setdefault(path, Setting(path, to, name, 0, note, "default"))


def without(made: Translation, path: str, reason: str) -> Translation:
    """Take a value out that the recipe cannot have, and say so of its name."""
    settings = {known: setting for known, setting in made.settings.items() if known != path}
    return replace(made, settings=settings, fates=lost(made.fates, made.settings[path], reason))


def lost(fates: Sequence[Fate], gone: Setting, reason: str, verdict: Verdict = "missing") -> list[Fate]:
    """Return the fates after a value was taken out: of its name, if nothing else is left of that, it is lost."""
    of_name = [fate for fate in fates if (fate.name, fate.line) == (gone.name, gone.line)]
    if gone.origin not in {"file", "trainer"}:
        return [fate for fate in fates if fate not in of_name]
    place = shown(gone.path)
    if of_name and not any(place in fate.paths for fate in of_name):
        return [*fates]  # a copy of what stands elsewhere
    rest = [replace(fate, paths=tuple(path for path in fate.paths if path != place)) for fate in of_name]
    value = of_name[0].value if of_name else gone.value
    others = [fate for fate in fates if fate not in of_name]
    return [
        *others,
        *(fate for fate in rest if fate.paths),
        Fate(gone.name, value, gone.line, verdict, (place,), reason),
    ]

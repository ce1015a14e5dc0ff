"""A file of another tool as names with values and lines: YAML, TOML, or the arguments of a shell script."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from recipec.diagnostics.phrases import listed
from recipec.importing.shell_script import Command, read_script, settings_of
from recipec.language.nodes import Node
from recipec.language.scalars import read_scalar
from recipec.language.yaml_reader import read_source
from recipec.reading.foreign.tables import trainer_words

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_VARIABLE = re.compile(r"\$\{oc\.env:\s*\w+\s*,\s*([^}]*?)\s*\}")
_SELECTED = re.compile(r"\$\{oc\.select:\s*([\w.]+)\s*(?:,\s*([^}]*?))?\s*\}")
_HEADER = re.compile(r"^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([\w.\"'-]+)\s*=")
_PROCESSES = {"nproc_per_node": "nnodes", "num_processes": "num_machines", "num_gpus": "num_nodes"}
"""Arguments of launchers with the number of processes, and of nodes; Accelerate counts processes of all nodes."""
_EACH = "num_nodes"
"""The number of nodes of a program that starts a launcher on each, with this many times its processes."""
_FOUND_BY = {"config_path", "config_name", "config_dir", "config", "config_file"}
_PROGRAM = re.compile(r"^[ \t]*(?:\w+=\S*[ \t]+)*(?:python3?|accelerate|torchrun|deepspeed|uv|trl|ray)\s", re.MULTILINE)
FindSettings = Callable[[str], str | None]
"""Returns the text of a file that a script names, or nothing where it is not next to the script."""
MOST_REFERENCES = 16
"""Values that one value may refer to, one after another."""


class LineOf(int):
    """A line of a file with settings that a script names, written with the name of that file.

    >>> f"{LineOf(7, 'config.yaml')}", LineOf(7, 'config.yaml') + 1
    ('config.yaml:7', 8)
    """

    file: str

    def __new__(cls, line: int, file: str) -> Self:
        """Keep the file with the number."""
        made = super().__new__(cls, line)
        made.file = file
        return made

    def __format__(self, spec: str) -> str:
        return format(f"{self.file}:{int(self)}", spec)


@dataclass(frozen=True, slots=True)
class Entry:
    """One name of a file: ``Entry("trainer.nnodes", 1, 12)``."""

    name: str
    value: Any
    line: int
    unresolved: tuple[str, ...] = ()
    """What of the value only a shell or another file would know."""
    added: bool = False
    """Whether Hydra shall take the name although it does not know it: ``+NAME=VALUE``."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Processes of a launcher: ``Spread("nproc_per_node", 8, 2)``."""

    name: str
    devices: int
    """On each node."""
    nodes: int = 1


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """A file as it was read."""

    file: str
    form: str
    """``yaml``, ``toml`` or ``shell``."""
    entries: tuple[Entry, ...] = ()
    words: tuple[str, ...] = ()
    """Programs and modules that a script starts."""
    launcher: frozenset[str] = frozenset()
    """Names of arguments before the last program, and of those by which a configuration is found."""
    spread: Spread | None = None
    """Processes that the launcher starts."""
    problem: str = ""
    """Why nothing could be read."""
    assumed: tuple[tuple[int, str, str], ...] = ()
    """Line, text and what was assumed of it, where a file leaves it open."""
    names: frozenset[str] = field(default_factory=frozenset)
    """Every name and the start of every name."""
    program: str = ""
    """The module or file that a script starts, the last of them."""
    settings: tuple[str, ...] = ()
    """Files with settings that a script starts its programs with, and that are not read."""
    settings_read: tuple[str, ...] = ()
    """Those that are read."""
    referred: frozenset[str] = frozenset()
    """Names that other names refer to, as `${NAME}`."""


def read_foreign(file: str, text: str, find_settings: FindSettings = lambda _: None) -> ForeignFile:
    r"""Read a file by its form; nothing in it is run, and ``problem`` says what cannot be read.

    Of a script, files that ``find_settings`` finds are read, too; its arguments come after what they say.

    >>> read_foreign("a.toml", "[trainer.optim]\nlr = 1e-5").entries
    (Entry(name='trainer.optim.lr', value=1e-05, line=2, unresolved=(), added=False),)
    """
    if file.endswith(".toml"):
        read = _toml(file, text)
    elif file.endswith((".sh", ".bash")) or text.startswith("#!") or _starts_program(text):
        read = _shell(file, text, find_settings)
    else:
        read = _yaml(file, text)
        if not read.entries:
            other = _toml(file, text)
            read = other if other.entries else read
    names = {part for entry in read.entries for part in _starts(entry.name)}
    return replace(read, names=frozenset(names))


def _starts(name: str) -> Iterator[str]:
    words = name.split(".")
    return (".".join(words[:length]) for length in range(1, len(words) + 1))


def _starts_program(text: str) -> bool:
    return bool(
        re.search(
            r"^[ \t]*(?:\w+=\S*[ \t]+)*(?:python3?|accelerate|torchrun|deepspeed|uv|trl|ray|swift)\s",
            text,
            re.MULTILINE,
        )
    )


# YAML


def _yaml(file: str, text: str, arguments: Iterable[Entry] = ()) -> ForeignFile:
    source = read_source(file, text, merge_keys=True)
    syntax = [one for one in source.diagnostics if one.code == "RC105"]  # mended for a recipe; no tool reads the file
    if source.root is None or not source.complete or syntax:
        end = next(reversed(syntax or source.diagnostics), None)
        return ForeignFile(
            file, "yaml", problem=f"line {end.spans[0].line}: {end.message}" if end else "it has no keys"
        )
    written = [entry for entry in _leaves(source.root, "") if entry.name]
    referred = frozenset(name for entry in written for name in _REFERENCE.findall(str(entry.value)))
    doubts = tuple(
        (d.spans[0].line, d.path or d.message, _DOUBTS[d.code]) for d in source.diagnostics if d.code in _DOUBTS
    )
    return ForeignFile(file, "yaml", tuple(_resolved(written, arguments)), referred=referred, assumed=doubts)


_DOUBTS = {
    "RC155": "a number with a leading zero is read as decimal; PyYAML reads an octal one",
    "RC107": "the key is given twice, and the last counts, as for PyYAML; OmegaConf and Hydra refuse such a file",
}
"""What is assumed where YAML readers disagree, by the code of the mistake that it is in a recipe."""


def _leaves(node: Node, name: str) -> Iterator[Entry]:
    line = (node.key or node.span).line
    if isinstance(node.value, dict) and node.value:
        for key, inner in _with_merged(node.value).items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(node.value, list) and any(isinstance(item.value, dict) for item in node.value):
        for item in node.value:
            yield from _leaves(item, name)
    else:
        value = node.plain()
        yield Entry(name, value if value != {} else None, line)


def _with_merged(keys: Mapping[str, Node]) -> dict[str, Node]:
    """Return the keys of a mapping with those that it merges (``<<``): its own come first, then those of the first."""
    sources = keys["<<"].value if "<<" in keys else []
    merged: dict[str, Node] = {}
    for source in reversed(sources if isinstance(sources, list) else [keys["<<"]]):
        merged |= _with_merged(source.value) if isinstance(source.value, dict) else {}
    return merged | {key: inner for key, inner in keys.items() if key != "<<"}


def _resolved(entries: list[Entry], arguments: Iterable[Entry]) -> list[Entry]:
    """Put values in place of ``${a.b}``, as Hydra and OmegaConf do; other references stay unresolved."""
    values = {entry.name: entry.value for entry in (*entries, *arguments)}

    def one(value: Any, depth: int) -> tuple[Any, tuple[str, ...]]:
        if not isinstance(value, str) or "${" not in value:
            return value, ()
        variable = _VARIABLE.fullmatch(value)  # of the environment, which counts as not set
        if variable:
            return _value(variable[1]), ()
        selected = _SELECTED.fullmatch(value)
        if selected and selected[1] not in values:
            return _value(selected[2] or ""), ()
        whole = selected or _REFERENCE.fullmatch(value)
        if whole and whole[1] in values and depth < MOST_REFERENCES:
            return one(values[whole[1]], depth + 1)
        text = value
        for found in _REFERENCE.finditer(value):
            if found[1] in values and depth < MOST_REFERENCES and "${" not in str(values[found[1]]):
                text = text.replace(found[0], str(values[found[1]]))
        return text, tuple(re.findall(r"\$\{[^}]*\}", text))

    made = []
    for entry in entries:
        value, unresolved = one(entry.value, 0)
        made.append(replace(entry, value=value, unresolved=unresolved))
    return made


# TOML


def _toml(file: str, text: str) -> ForeignFile:
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
        return ForeignFile(file, "toml", problem=f"it is not TOML: {error}")
    lines = _lines_of_toml(text)
    return ForeignFile(file, "toml", tuple(entry for entry in _toml_leaves(data, "", lines) if entry.name))


def _toml_leaves(value: Any, name: str, lines: Mapping[str, int]) -> Iterator[Entry]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _toml_leaves(inner, f"{name}.{key}" if name else key, lines)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from _toml_leaves(item, name, lines)
    else:
        line = next((lines[start] for start in reversed([*_starts(name)]) if start in lines), 1)
        yield Entry(name, None if value == {} else value, line)


def _lines_of_toml(text: str) -> dict[str, int]:
    """Return the first line of each table and key."""
    line_of: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = re.sub(r"[\"'\s]", "", header[1])
            line_of.setdefault(table, number)
        elif key:
            name = re.sub(r"[\"']", "", key[1])
            line_of.setdefault(f"{table}.{name}" if table else name, number)
    return line_of


# shell


def _shell(file: str, text: str, find_settings: FindSettings) -> ForeignFile:
    script = read_script(text)
    if not script.commands:
        problem = "no command in it has arguments with names"
        problem += f"; it starts {listed(script.scripts, 5)}: import that script" if script.scripts else ""
        return ForeignFile(file, "shell", problem=problem, settings=script.settings)
    command = max(script.commands, key=_weight)
    words = tuple(word.strip("\"'") for word in command.words)
    program = max((n for n, word in enumerate(words, 1) if re.search(r"\.py$|^[a-z_]\w*(\.\w+)+$", word)), default=0)
    before = {_plain_name(a.name) for a in command.arguments if a.after < program}
    launcher = frozenset(before | _FOUND_BY)
    written = (Entry(_plain_name(a.name), _value(a.value), a.line, a.unresolved, a.added) for a in command.arguments)
    entries = [part for one in written for part in ((one,) if one.name in launcher else _parts(one))]
    named = {name: find_settings(name) for name in settings_of(command)}
    found = {name: _settings(name, text, entries) for name, text in named.items() if text is not None}
    found = {name: settings for name, settings in found.items() if settings}
    others = tuple(
        (
            one.line,
            " ".join(one.words),
            f"the command in line {command.line} is read, which trains or has more arguments",
        )
        for one in script.commands
        if one is not command and one.words[-1:] == command.words[-1:]
    )
    assumed = tuple((line, condition, f"{what}: only a shell knows it") for line, condition, what in script.assumed)
    counts = {entry.name: entry.value for entry in entries if entry.name in before and type(entry.value) is int}
    spread, all_assumed = _spread(counts), (*assumed, *others)
    return ForeignFile(
        file,
        "shell",
        (*(entry for settings in found.values() for entry in settings), *entries),
        words,
        launcher,
        spread,
        assumed=all_assumed,
        program=words[program - 1] if program else "",
        settings=tuple(name for name in script.settings if name not in found),
        settings_read=tuple(found),
    )


def _settings(name: str, text: str, arguments: list[Entry]) -> list[Entry]:
    """Read a file with settings of a program; references in it see the arguments of the script."""
    read = _toml(name, text) if name.endswith(".toml") else _yaml(name, text, arguments)
    return [replace(entry, line=LineOf(entry.line, name)) for entry in read.entries]


def _parts(entry: Entry) -> Iterator[Entry]:
    """Yield the parts of a mapping in braces, each under a name of its own."""
    root = read_source("", entry.value).root if _is_mapping(entry.value) else None
    if root is None or not isinstance(root.value, dict):
        yield entry
        return
    for leaf in _leaves(root, entry.name):
        yield replace(leaf, line=entry.line, unresolved=tuple(re.findall(r"\$\{?\w+\}?", str(leaf.value))))


def _is_mapping(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("{") and value.endswith("}") and ":" in value


def _spread(counts: dict[str, int]) -> Spread | None:
    """Return how many processes run on how many nodes, by the arguments of launchers."""
    name = next((name for name in reversed(counts) if name in _PROCESSES), "")
    if not name:
        return None
    nodes = max(1, counts.get(_PROCESSES[name], 1))
    if name == "num_processes" and nodes > 1 and counts[name] % nodes == 0:
        return Spread(name, counts[name] // nodes, nodes)
    return Spread(name, max(1, counts[name]), max(nodes, counts.get(_EACH, 1)))


def _weight(command: Command) -> tuple[bool, int, bool]:
    """Prefer a trainer, which others only prepare data for, and the most arguments; one may be printed first."""
    trains = any({word, word.rpartition("/")[2]} & trainer_words() for word in command.words)
    return trains, len(command.arguments), command.words[:1] != ["echo"]


def _plain_name(name: str) -> str:
    return name.lstrip("+~").replace("-", "_").replace("/", ".")


_WORDS = {"True": True, "true": True, "False": False, "false": False, "None": None, "null": None, "": None}


def _value(value: str | bool | list[str]) -> Any:
    """Read a value as YAML does: numbers, switches, lists."""
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        return [_value(item) for item in value]
    text = value.strip()
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text.startswith("[") and text.endswith("]"):
        inner = text[1:-1].strip()
        return [_value(part) for part in re.split(r"\s*,\s*", inner)] if inner else []
    parsed, wrong = read_scalar(text)
    return text if wrong else parsed

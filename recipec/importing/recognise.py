"""Of which tool a file is, and which of its trainers it configures."""

from __future__ import annotations

from dataclasses import dataclass

from recipec.importing.sources import ForeignFile
from recipec.reading.foreign.tables import BELOW, Tool, Trainer, tools
from recipec.reading.foreign.values import unread_tools

ENOUGH = 3
"""Names of a tool that a file must have, where no command names the tool."""
SHARE = 0.5
"""Share of a file's names that the tool must know."""
MANY, LESS = 20, 0.4
"""Names of a tool that show a file of a fork with names of its own, and their share there."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """The tool and trainer of a file, and the key by which the trainer was chosen."""

    tool: Tool
    trainer: Trainer
    reason: str


def tool_of(read: ForeignFile) -> Tool | None:
    """Return the tool that a file belongs to, by its command, its marks and its names; None if it is of no tool."""
    if {"recipec", "stages"} & read.names or unread_tool(read):
        return None
    ranked = []
    for tool in tools():
        if not tool.trainers:
            continue
        known = sum(tool.knows(entry.name) for entry in read.entries)
        marks = sum(mark.removesuffix(f".{BELOW}") in read.names for mark in tool.marks)
        command = any(_names(word, start) for word in read.words for start in tool.commands)
        if tool.fork and not marks:
            continue  # a file of the tool that it is a fork of
        share = known / max(1, len(read.entries))
        if command and (known or len(read.entries) < ENOUGH):
            ranked.append((tool.fork, 2 * share + 0.2 * marks + 0.5, tool.slug, tool))
        elif (
            marks
            and known >= min(ENOUGH, len(read.entries))
            and (share >= SHARE or (marks > 1 and known >= MANY and share >= LESS))
        ):
            ranked.append((tool.fork, 2 * share + 0.2 * marks, tool.slug, tool))
    return max(ranked)[-1] if ranked else None


def unread_tool(read: ForeignFile) -> str:
    """Return the tool of a file that is known, but not read; an empty text if it is of none of these.

    >>> from recipec.importing.sources import read_foreign
    >>> unread_tool(read_foreign("a.sh", "swift sft --model org/m"))
    'ms-swift'
    """
    for tool, signs in unread_tools().items():
        commands, names, one_of = ({*signs.get(part, "").split()} for part in ("commands", "names", "any"))
        if commands & {*read.words} or (names and names <= read.names) or one_of & read.names:
            return tool
        if signs.get("last") in {entry.name.rpartition(".")[2] for entry in read.entries}:
            return tool
    return ""


def _names(word: str, start: str) -> bool:
    """Whether a word of a command names a program or module."""
    return word == start or word.endswith(f"/{start}") or (start.endswith(".") and word.startswith(start))


def _last(word: str) -> str:
    return word.rpartition(".")[2]


def is_own(program: str, tool: Tool) -> bool:
    """Whether a script or module comes with the tool, or names one of its trainers.

    >>> verl = next(tool for tool in tools() if tool.name == "verl")
    >>> is_own("verl.trainer.main_ppo", verl), is_own("recipe.flowrl.main_flowrl", verl)
    (True, False)
    """
    words = [word for trainer in tool.trainers.values() for word in trainer.words]
    starts = [start for start in tool.commands if not start.endswith(".") or start.startswith(tool.slug)]
    return any(_names(program, start) for start in (*words, *starts)) or _last(program) in words


def recognised(read: ForeignFile, tool: Tool) -> Recognised:
    """Choose the trainer: by the command, by a name that decides, by names that only it has, or the first one."""
    stated = {f"{entry.name}={entry.value}".lower() for entry in read.entries}
    for trainer in tool.trainers.values():
        for word in trainer.words:
            if word in stated:
                return Recognised(tool, trainer, f"`{word.replace('=', ': ')}`")
            if any(_names(given, word) or _last(given) == word for given in read.words):
                return Recognised(tool, trainer, f"the command names `{word}`")
    by_keys = [(sum(key in read.names for key in trainer.keys), trainer) for trainer in tool.trainers.values()]
    count, best = max(by_keys, key=lambda one: one[0])
    stem = read.file.rpartition("/")[2].lower()
    named = next((t for t in tool.trainers.values() if t.name in stem.replace("-", "_").split(".")[0].split("_")), None)
    if named is not None and count <= 1:
        return Recognised(tool, named, "the name of the file")
    if count:
        keys = [key for key in best.keys if key in read.names]
        return Recognised(tool, best, f"it has `{'`, `'.join(keys[:3])}`")
    for trainer in tool.trainers.values():
        if given := stated & {*trainer.values}:
            return Recognised(tool, trainer, f"`{min(given).replace('=', ': ')}`")
    return Recognised(tool, _usual(tool), "nothing names another trainer")


def _usual(tool: Tool) -> Trainer:
    return tool.trainers.get("sft", next(iter(tool.trainers.values())))

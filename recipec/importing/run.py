"""Import a file: recognise it, translate it, and compile the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from recipec.compile import check_recipe
from recipec.diagnostics.errors import importing as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.importing.complete import completed
from recipec.importing.recognise import Recognised, recognised, tool_of, unread_tool
from recipec.importing.sources import FindSettings, ForeignFile, read_foreign
from recipec.importing.translate import Setting, Translation, translate, without
from recipec.importing.write import STAGE, recipe_text
from recipec.reading.foreign.advice import of_recipe
from recipec.reading.foreign.tables import tools

_UNSAYABLE = {"RC130", "RC131", "RC132", "RC135", "RC137"}
"""Errors of a value that the recipe cannot have at its place."""
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Imported:
    """A recipe from another tool's file: its text, what became of each name, and the errors that are left."""

    text: str
    made: Translation
    left: tuple[Diagnostic, ...]


def import_recipe(
    file: str, text: str, *, devices: int = 0, trainer: str = "", find_settings: FindSettings = lambda _: None
) -> Imported:
    """Make a recipe from the text of another tool's file; 0 devices: as the file says, or 1.

    ``find_settings`` finds the files with settings that a script names.

    Raises:
        RecipeError: RC910, nothing in it can be read; RC911, it is of no known tool; RC912, the trainer is not one of
            the tool's.
    """
    read = read_foreign(file, text, find_settings)
    if not read.entries:
        raise RecipeError(errors.nothing_to_import(file, read.problem, read.settings))
    tool = tool_of(read)
    if tool is None:
        known = [tool.name for tool in tools() if tool.trainers]
        raise RecipeError(errors.unknown_tool(file, known, unread_tool(read), read.settings))
    if all(entry.name in read.launcher for entry in read.entries):
        raise RecipeError(errors.nothing_to_import(file, "its program has no arguments with names", read.settings))
    found = recognised(read, tool)
    if trainer:
        if trainer not in tool.trainers:
            raise RecipeError(errors.unknown_trainer(trainer, tool.name, [*tool.trainers]))
        found = Recognised(tool, tool.trainers[trainer], "as given")
    made = translate(read, found, max(devices, read.spread.devices * read.spread.nodes if read.spread else 0))
    made.settings.setdefault("name", Setting("name", _stem(file), "the name of the file", origin="trainer"))
    return _checked(completed(made), read)


def _stem(file: str) -> str:
    words = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in PurePath(file).stem)
    return words.strip("-")[:100] or "imported"


def _checked(made: Translation, read: ForeignFile) -> Imported:
    """Compile the recipe; values that it cannot have are taken out, with the reason."""
    file = PurePath(read.file).name
    for _ in range(_ROUNDS):
        text = recipe_text(made, file)
        errors_left = [d for d in check_recipe("<imported>", text=text).diagnostics if d.is_error]
        refused = {path: d for d in errors_left if d.code in _UNSAYABLE for path in _settings_at(made, d.path)}
        if not refused:
            return Imported(text, made, tuple(errors_left))
        for path, diagnostic in refused.items():
            made = without(made, path, f"{diagnostic.message}" + (f" ({diagnostic.help})" if diagnostic.help else ""))
        made = completed(made)
    return Imported(recipe_text(made, file), made, tuple(errors_left))


def _settings_at(made: Translation, path: str) -> list[str]:
    """Return the values at or below a place of the recipe."""
    top = f"stages.{STAGE}."
    return [
        known
        for known in made.settings
        if f"{known if of_recipe(known) else top + known}.".startswith(f"{path}.") and path
    ]


def foreign_tool(file: str, text: str) -> tuple[str, bool]:
    """Return the tool that a file belongs to, or an empty text, and whether files of it can be imported."""
    read = read_foreign(file, text)
    tool = tool_of(read)
    return (tool.name, True) if tool is not None else (unread_tool(read), False)

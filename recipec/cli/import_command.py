"""The command ``import``: a file of another tool becomes a recipe and a report."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from recipec.cli.commands import TableFormat, app
from recipec.cli.input_output import STDIN, standard_input, writing
from recipec.diagnostics.model import Diagnostic, RecipeError


def foreign_text(path: Path) -> str:
    """Read a file of another tool, or standard input.

    Raises:
        RecipeError: RC101 or RC102, it cannot be read.
    """
    from recipec.language.text_positions import read_text

    if str(path) == STDIN:
        return standard_input()
    found: list[Diagnostic] = []
    text = read_text(str(path), str(path), (), found)
    if text is None:
        raise RecipeError(*found)
    return text


def settings_file(script: Path, name: str) -> str | None:
    """Return the text of a file with settings that a script names: in its folder, by its path or the end of it.

    Scripts are started from the folder of their project: ``examples/a.sh`` names ``examples/config.yaml``.
    """
    parts, folder = PurePosixPath(name).parts, script.parent
    for start in range(len(parts)):
        path = folder.joinpath(*parts[start:])
        if path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            return foreign_text(path)
    return None


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="YAML, TOML or shell script of another tool; it is read, never run.")],
    dest: Annotated[Path | None, typer.Argument(help="File to create; standard output by default.")] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", min=1, help="Devices that the file is started on.")
    ] = None,
    trainer: Annotated[
        str, typer.Option("--trainer", help="Trainer of the tool, such as grpo; found by default.")
    ] = "",
    form: Annotated[TableFormat, typer.Option("--format", help="Format of the report.")] = TableFormat.text,
) -> None:
    """Write a recipe from a file of another tool, and report what became of each name; exit 1 if errors are left."""
    from recipec.importing import report
    from recipec.importing.run import import_recipe

    if dest is not None and dest.exists():
        print(f"{dest} already exists; choose another file", file=sys.stderr)
        raise typer.Exit(1)
    find_settings = partial(settings_file, file)
    found = import_recipe(
        str(file), foreign_text(file), devices=devices or 0, trainer=trainer, find_settings=find_settings
    )
    summary = (
        report.text(found.made, found.left) if form is TableFormat.text else report.json_text(found.made, found.left)
    )
    if dest is None:
        print(found.text, end="")
        print(summary, end="", file=sys.stderr)
    else:
        with writing(dest):
            dest.parent.mkdir(parents=True, exist_ok=True)
            dest.write_text(found.text, encoding="utf-8")
        print(summary, end="")
        print(f"wrote {dest}", file=sys.stderr)
    raise typer.Exit(1 if found.left else 0)

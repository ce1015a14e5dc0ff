"""What commands read and print: recipe files, standard input, diagnostics."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from recipec.diagnostics.model import Diagnostic, RecipeError


class Format(StrEnum):
    """Output format of diagnostics."""

    text = "text"
    concise = "concise"
    json = "json"
    github = "github"
    sarif = "sarif"


RecipePath = Annotated[Path, typer.Argument(help="Recipe file.", show_default=False)]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Set a key of the recipe, e.g. stages.explore.loss.epsilon=0.1; repeatable.")
]
STDIN = "-"
Out = Annotated[
    Path | None, typer.Option("--out", help="Run directory; runs/NAME in the working directory by default.")
]
Use = Annotated[list[Path], typer.Option("--use", help="Allow this file of `use` to be executed; repeatable.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="Output format of diagnostics.")]


def show(
    diagnostics: Iterable[Diagnostic], texts: Mapping[str, str], form: Format = Format.text, *, valid: bool
) -> None:
    """Print diagnostics: text to stderr, machine-readable formats to stdout."""
    from recipec.diagnostics.formats import render

    text = render(list(diagnostics), texts, form.value, valid=valid)
    if text:
        print(text, file=sys.stderr if form is Format.text else sys.stdout)


def recipes_in(paths: Sequence[Path]) -> list[Path]:
    """Return the files to check: a directory stands for all YAML files below it, without hidden directories."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")])
            found += [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        else:
            found.append(path)
    return found


def standard_input() -> str:
    """Read a recipe from standard input; invalid UTF-8 is reported by the YAML reader."""
    stream = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read() if stream is None else stream.read().decode("utf-8", "surrogateescape")


def of_another_tool(path: Path, checked: Any) -> Sequence[Diagnostic]:
    """Return the diagnostics of a file; for another tool's file only that it is one, and of which tool."""
    if not any(diagnostic.is_error for diagnostic in checked.diagnostics) or {"recipec", "stages"} & {
        *checked.resolved.data
    }:
        return tuple(checked.diagnostics)
    from recipec.diagnostics.errors.importing import foreign_file
    from recipec.importing.run import foreign_tool

    text = next(iter(checked.texts.values()), "")
    tool = foreign_tool(str(path), text)
    return (foreign_file(str(path), tool),) if tool else tuple(checked.diagnostics)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` while writing ``path`` into a diagnostic.

    Raises:
        RecipeError: RC761, the file cannot be written.
    """
    try:
        yield
    except OSError as error:
        from recipec.diagnostics.errors.run import cannot_write

        raise RecipeError(cannot_write(str(error.filename or path), error.strerror or str(error))) from error


def compile_or_exit(path: Path, overrides: Sequence[str]) -> Any:
    """Compile one recipe or exit with its diagnostics."""
    from recipec.compile import compile_recipe

    text = standard_input() if str(path) == STDIN else None
    result = compile_recipe(Path("<stdin>") if text is not None else path, overrides, text=text)
    show(result.diagnostics, result.texts, valid=result.graph is not None)
    if result.graph is None:
        if result.ok:
            from recipec.diagnostics.errors.reading import no_stages
            from recipec.diagnostics.model import file_span

            raise RecipeError(no_stages("", file_span(str(path)), fragment=True))
        raise typer.Exit(1)
    return result

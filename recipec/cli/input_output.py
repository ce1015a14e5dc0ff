"""What commands read and print: recipe files, standard input, diagnostics."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

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
_LONGEST = 1 << 20
"""Most characters of a line that is quoted."""
Out = Annotated[
    Path | None, typer.Option("--out", help="Run directory; runs/NAME in the working directory by default.")
]
Use = Annotated[list[Path], typer.Option("--use", help="Allow this file of `use` to be executed; repeatable.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="Output format of diagnostics.")]


def show(
    diagnostics: Iterable[Diagnostic],
    texts: Mapping[str, str],
    form: Format = Format.text,
    *,
    valid: bool,
    root: Path = Path(),
) -> None:
    """Print diagnostics: text to stderr, in colour on a terminal; machine-readable formats to stdout.

    Lines of files that are not among ``texts``, such as rows of data and the user's code, are read below ``root``.
    """
    from recipec.diagnostics.formats import render

    listed = list(diagnostics)
    colour = form is Format.text and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    if form is Format.text:
        texts = {**quoted(listed, root, texts), **texts}
    text = render(listed, texts, form.value, valid=valid, colour=colour)
    if text and colour:
        from rich.console import Console

        Console(stderr=True, soft_wrap=True, highlight=False).print(text)
    elif text:
        print(text, file=sys.stderr if form is Format.text else sys.stdout)


def quoted(diagnostics: Iterable[Diagnostic], root: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Read the line that each diagnostic points at, from files that are not known yet; the other lines are empty."""
    lines: dict[str, dict[int, str]] = {}
    for span in (one.spans[0] for one in diagnostics if one.spans and one.spans[0].file not in texts):
        try:
            if not (root / span.file).is_file():
                continue
            with (root / span.file).open(encoding="utf-8", errors="replace") as stream:
                line = _line(stream, span.line)
        except (OSError, ValueError):  # a name that no file has
            continue
        lines.setdefault(span.file, {})[span.line] = line.rstrip("\r\n")
    return {file: "\n".join(of.get(i, "") for i in range(1, max(of) + 1)) for file, of in lines.items()}


def _line(stream: TextIO, number: int) -> str:
    """Return a line of a file, cut where it is too long to be shown."""
    at = 1
    while piece := stream.readline(_LONGEST):
        if at == number:
            return piece
        at += piece.endswith("\n")
    return ""


def recipes_in(paths: Sequence[Path]) -> list[Path]:
    """Return the files to check: a directory stands for all YAML files below it, without hidden directories."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted([*path.rglob("*.yaml"), *path.rglob("*.yml")])
            files += [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        else:
            files.append(path)
    return files


def is_recipe(path: Path) -> bool:
    """Whether a line of a file begins with the key `recipec`; a file that cannot be read is left to the reader."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True
    return any(line.startswith(("recipec:", '"recipec":', "'recipec':", "{recipec:")) for line in text.splitlines())


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
    tool, is_read = foreign_tool(str(path), text)
    return (foreign_file(str(path), tool, read=is_read),) if tool else tuple(checked.diagnostics)


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


def compile_or_exit(path: Path, overrides: Sequence[str], text: str | None = None) -> Any:
    """Compile one recipe or exit with its diagnostics; ``text`` is what standard input has, where it was read."""
    from recipec.compile import compile_recipe

    if text is None and str(path) == STDIN:
        text = standard_input()
    result = compile_recipe(Path("<stdin>") if text is not None else path, overrides, text=text)
    show(result.diagnostics, result.texts, valid=result.graph is not None)
    if result.graph is None:
        if result.ok:
            from recipec.diagnostics.errors.reading import no_stages
            from recipec.diagnostics.model import file_span

            raise RecipeError(no_stages("", file_span(str(path)), fragment=True))
        raise typer.Exit(1)
    return result

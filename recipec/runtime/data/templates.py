"""Files of templates, read the same way and refused in the same words wherever a recipe names one."""

from __future__ import annotations

from pathlib import Path

from recipec.component import is_inline
from recipec.diagnostics.errors import data as errors
from recipec.diagnostics.model import Diagnostic, RecipeError
from recipec.host.small_files import read_small
from recipec.host.templates import template_columns, template_problem
from recipec.package_files import named_file


def read_template(path: Path, shown: str) -> str:
    """Return the text of a template; messages name it ``shown``.

    Raises:
        RecipeError: RC700, it cannot be read.
    """
    try:
        return read_small(path)
    except (OSError, UnicodeDecodeError) as error:
        siblings = [p.name for p in path.parent.iterdir() if p.is_file()] if path.parent.is_dir() else []
        raise RecipeError(errors.data_missing(shown, _problem(error), siblings)) from None


def template_text(root: Path, template: str) -> tuple[str, str]:
    """Return the text of a template, given itself or by the name of a file, and how messages name it.

    Raises:
        RecipeError: RC700, the file cannot be read.
    """
    return (
        (template, "`template`")
        if is_inline(template)
        else (read_template(named_file(root, template), template), template)
    )


def columns_taken(root: Path, template: str | None) -> frozenset[str]:
    """Return the columns that a template takes; none without one, or of one that rendering will refuse."""
    if template is None or choose(root, template):
        return frozenset()
    return template_columns(template_text(root, template)[0])


def choose(root: Path, name: str | None) -> list[Diagnostic]:
    """Return what is wrong with the template that a parameter names, if it names one; it is not rendered here."""
    if name is None:
        return []
    try:
        problem = template_problem(*template_text(root, name))
    except RecipeError as error:
        return list(error.diagnostics)
    return [] if problem is None else [problem]


def _problem(error: OSError | UnicodeDecodeError) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case IsADirectoryError():
            return "it is a directory"
        case UnicodeDecodeError():
            return "it is not UTF-8"
        case _:
            return error.strerror or str(error)

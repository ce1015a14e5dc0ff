"""The user's own reward functions, as far as they can be known without running them."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recipec.diagnostics import Refused, Span
from recipec.faults import own as trust
from recipec.faults import reward as faults

Form = Literal["trl", "verl"]
# What we pass by name beside the data's columns.
GIVEN = {
    "trl": ("prompts", "completions", "completion_ids"),
    "verl": ("data_source", "solution_str", "ground_truth", "extra_info"),
}


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's parameters, and where it stands.

    Example: ``Signature("score", "rewards.py", 3, ("completions", "answer"), (), extra=True)``.
    """

    name: str
    file: str
    line: int
    required: tuple[str, ...]
    """Parameters without a default."""
    optional: tuple[str, ...]
    extra: bool
    """Takes ``**columns``."""

    @property
    def form(self) -> Form | None:
        """Whose signature it is, by the names of its parameters."""
        names = {*self.required, *self.optional}
        if "solution_str" in names:
            return "verl"
        return "trl" if names & {"prompts", "completions", "completion_ids"} else None

    @property
    def spans(self) -> tuple[Span, ...]:
        """Where it is defined."""
        return (Span(self.file, self.line, 1, self.line, 2),) if self.line else ()

    def columns(self) -> tuple[str, ...]:
        """Columns of the data without which it cannot be called."""
        given = GIVEN[self.form] if self.form else ()
        return tuple(name for name in self.required if name not in given)


def functions_in(path: Path, shown: str) -> dict[str, Signature]:
    """Return the signatures of a file's top-level functions by name, read from its text: nothing is run.

    Raises:
        Refused: RC750, the file is missing or is no Python.
    """
    try:
        tree = ast.parse(path.read_bytes(), shown)
    except OSError:
        raise Refused(faults.own_file_broken(shown, 0, "there is no such file")) from None
    except SyntaxError as error:
        raise Refused(faults.own_file_broken(shown, error.lineno or 0, error.msg)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise Refused(faults.own_file_broken(shown, 0, str(error) or type(error).__name__)) from None
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: _signature(node, shown) for node in tree.body if isinstance(node, kinds)}


def signature_of(path: Path, name: str, shown: str) -> Signature | None:
    """Return the signature of one function of a file, or None; see :func:`functions_in`."""
    return functions_in(path, shown).get(name)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, shown: str) -> Signature:
    positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    split = len(positional) - len(node.args.defaults)
    defaults = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    required = (*positional[:split], *(a.arg for a, default in defaults if default is None))
    optional = (*positional[split:], *(a.arg for a, default in defaults if default is not None))
    return Signature(node.name, shown, node.lineno, required, optional, node.args.kwarg is not None)


def check_use(use: Sequence[str], granted: Sequence[Path], root: Path) -> None:
    """Compare the files that the recipe uses with those that the command line allows.

    ``use`` is relative to ``root``; ``granted`` are paths as given on the command line.

    Raises:
        Refused: RC620 a file is not allowed, RC621 an allowed one is not used; all of them at once.
    """
    asked = {(root / name).resolve(): name for name in use}
    allowed = {path.resolve(): str(path) for path in granted}
    here = Path.cwd()
    problems = [
        trust.code_not_allowed(name, str(path.relative_to(here) if path.is_relative_to(here) else path))
        for path, name in asked.items()
        if path not in allowed
    ]
    problems += [trust.allowed_not_used(name, use) for path, name in allowed.items() if path not in asked]
    if problems:
        raise Refused(*problems)

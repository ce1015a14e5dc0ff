"""The user's own functions and classes, as far as they can be known without running them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from recipec.diagnostics.errors import own as trust, reward as errors
from recipec.diagnostics.model import RecipeError, Span

WORLD = {"reset": 2, "step": 1}
"""Methods of an environment's class, with the number of arguments each is called with."""
_WORD, _WORDS = 40, 8
"""Characters of a text that may be an action, and how many of them are tried."""
_SEVERAL = (ast.Set, ast.List, ast.Tuple)
Form = Literal["trl", "verl"]
# What is passed by name in addition to the data's columns.
GIVEN = {
    "trl": ("prompts", "completions", "completion_ids"),
    "verl": ("data_source", "solution_str", "ground_truth", "extra_info"),
}


class Signature(NamedTuple):
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
        """The kind of function that a signature belongs to, by the names of its parameters."""
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
        passed = GIVEN[self.form] if self.form else ()
        return tuple(name for name in self.required if name not in passed)


class Class(NamedTuple):
    """A class of a file: where it stands, and which of its methods can be called as ours are.

    Example: ``Class("Maze", "maze.py", 7, {"step": False}, {"step": 9}, whole=True)``: its ``step`` takes others.
    """

    name: str
    file: str
    line: int
    methods: dict[str, bool]
    """Of the required methods, those that exist, and whether they take the required number of arguments."""
    lines: dict[str, int]
    """Where these methods are, of those that the class itself defines."""
    whole: bool
    """Every method it has is known: it inherits from nothing but classes of the same file."""

    def spans(self, method: str = "") -> tuple[Span, ...]:
        """Where it, or a method of it, is defined."""
        line = self.lines.get(method, self.line)
        return (Span(self.file, line, 1, line, 2),)


def classes_in(path: Path, shown: str, methods: Mapping[str, int]) -> dict[str, Class]:
    """Return a file's top-level classes by name, read from its text: nothing is run.

    ``methods`` are those of interest, with the number of arguments that each is called with.

    Raises:
        RecipeError: RC750, the file is missing or is not valid Python.
    """
    nodes = {node.name: node for node in parse_file(path, shown).body if isinstance(node, ast.ClassDef)}
    classes: dict[str, Class] = {}
    for name, node in nodes.items():  # a class stands after those of the file that it inherits from
        bases = [base.id if isinstance(base, ast.Name) else "" for base in node.bases]
        parents = [classes[base] for base in bases if base in classes]
        have = {method: fits for parent in reversed(parents) for method, fits in parent.methods.items()}
        lines: dict[str, int] = {}
        for item in node.body:
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name in methods:
                lines[item.name] = item.lineno
                bare = item.name == "tasks" and not item.decorator_list  # it would be called without an object
                have[item.name] = isinstance(item, ast.FunctionDef) and not bare and _takes(item, methods[item.name])
        known = all(base in classes and classes[base].whole for base in bases if base != "object")
        classes[name] = Class(name, shown, node.lineno, have, lines, whole=known and not node.keywords)
    return classes


def may_mention(path: Path, shown: str, word: str) -> bool:
    """Whether a file has a word, or imports code from outside of the standard library, which may have it.

    Raises:
        RecipeError: RC750, the file is missing or is not valid Python.
    """
    tree = parse_file(path, shown)
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    elsewhere = any(name.partition(".")[0] not in sys.stdlib_module_names for name in names)
    return elsewhere or word in path.read_text(encoding="utf-8", errors="replace")


def words_of(paths: Sequence[Path], name: str) -> list[str]:
    """Return short texts that a class compares something with, or looks up by, read from its file.

    What an environment does with an action it knows is in these branches.

    Raises:
        RecipeError: RC750, a file is missing or is not valid Python.
    """
    texts: dict[str, None] = {}
    for path in paths:
        tree = parse_file(path, path.name)
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
        tables = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)]
        for node in (one for top in (*classes, *(tables if classes else ())) for one in ast.walk(top)):
            parts: Sequence[ast.expr | None] = ()
            if isinstance(node, ast.Compare):
                sides = [one.elts if isinstance(one, _SEVERAL) else [one] for one in node.comparators]
                parts = [item for side in sides for item in side]
            elif isinstance(node, ast.MatchValue):
                parts = [node.value]
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                parts = node.value.keys
            words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
            texts |= dict.fromkeys(word for word in words if 0 < len(word.strip()) <= _WORD)
    return list(texts)[:_WORDS]


def _takes(node: ast.FunctionDef, count: int) -> bool:
    """Whether a method can be called with ``count`` arguments by position."""
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in node.decorator_list)
    most = len(node.args.posonlyargs) + len(node.args.args) - (not static)
    least = most - len(node.args.defaults)
    named = any(default is None for default in node.args.kw_defaults)
    return least <= count and (count <= most or node.args.vararg is not None) and not named


def functions_in(path: Path, shown: str) -> dict[str, Signature]:
    """Return the signatures of a file's top-level functions by name, read from its text: nothing is run.

    Raises:
        RecipeError: RC750, the file is missing or is not valid Python.
    """
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: _signature(node, shown) for node in parse_file(path, shown).body if isinstance(node, kinds)}


def other_names(path: Path, shown: str) -> dict[str, tuple[str, Span]]:
    """Return the top-level names of a file that are no functions: what they are, and where.

    Raises:
        RecipeError: RC750, the file is missing or is not valid Python.
    """
    others: dict[str, tuple[str, Span]] = {}
    for node in parse_file(path, shown).body:
        names: Sequence[str] = ()
        what = "an object"
        if isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            what = "a lambda" if isinstance(node.value, ast.Lambda) else what
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names, what = [alias.asname or alias.name for alias in node.names], "imported"
        elif isinstance(node, ast.ClassDef):
            names, what = [node.name], "a class"
        others |= {name: (what, Span(shown, node.lineno, 1, node.lineno, 2)) for name in names}
    return others


def parse_file(path: Path, shown: str) -> ast.Module:
    """Parse a file of the user's without running it.

    Raises:
        RecipeError: RC750, the file is missing or is not valid Python.
    """
    try:
        return ast.parse(path.read_bytes(), shown)
    except OSError:
        others = sorted(one.name for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise RecipeError(errors.own_file_broken(shown, 0, "there is no such file", others=others)) from None
    except SyntaxError as error:
        line, column = error.lineno or 0, max(error.offset or 1, 1)
        raise RecipeError(errors.own_file_broken(shown, line, error.msg, column)) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise RecipeError(errors.own_file_broken(shown, 0, str(error) or type(error).__name__)) from None


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, shown: str) -> Signature:
    positional = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    split = len(positional) - len(node.args.defaults)
    defaults = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    required = (*positional[:split], *(a.arg for a, default in defaults if default is None))
    optional = (*positional[split:], *(a.arg for a, default in defaults if default is not None))
    return Signature(node.name, shown, node.lineno, required, optional, node.args.kwarg is not None)


def check_use(
    use: Sequence[str],
    granted: Sequence[Path],
    root: Path,
    locate: Callable[[str], Sequence[Span]] = lambda _: (),
) -> None:
    """Compare the files that the recipe uses with those that the command line allows.

    ``use`` is relative to ``root``; ``granted`` are paths as given on the command line; ``locate`` finds a key.

    Raises:
        RecipeError: RC620 a file is not allowed, RC750 it is not there, RC621 an allowed one is not used; all at once.
    """
    named = {(root / name).resolve(): name for name in use}
    allowed = {path.resolve(): str(path) for path in granted}
    here = Path.cwd()
    problems = []
    for number, (path, name) in enumerate(named.items()):
        if path not in allowed:
            shown, key = str(path.relative_to(here) if path.is_relative_to(here) else path), f"use.{number}"
            others = sorted(one.name for one in path.parent.glob("*.py"))
            problem = trust.code_not_allowed(name, shown)
            if not path.exists():
                problem = errors.own_file_broken(name, 0, "there is no such file", others=others)
            problems.append(replace(problem, path=key, spans=tuple(locate(key))))
    problems += [trust.allowed_not_used(name, use) for path, name in allowed.items() if path not in named]
    if problems:
        raise RecipeError(*problems)

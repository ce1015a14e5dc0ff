"""What a function or class of a user's file depends on in that file, in a form that formatting cannot change."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from recipec.reading.user_code import parse_file

_ANY_NAME = {"eval", "exec", "globals", "locals", "vars", "__import__"}
"""Functions through which code can reach a name that its text does not contain."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def used_source(path: Path, name: str, shown: str) -> str | None:
    r"""Return the normalised source of a top-level function or class and of everything in the file that it refers to.

    Comments, docstrings, blank lines and definitions that it does not refer to are left out; statements that run when
    the file is loaded, such as ``random.seed(0)``, are kept.  None where the file defines no such name.

    Raises:
        RecipeError: RC750, the file is missing or is not valid Python.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "rewards.py")
    ...     _ = file.write_text("HALF = 0.5\ndef other(): pass\ndef score(answer):\n    return HALF  # half\n")
    ...     print(used_source(file, "score", "rewards.py"))
    HALF = 0.5
    def score(answer):
        return HALF
    """
    body = parse_file(path, shown).body
    if not any(isinstance(node, _DEFINITIONS) and node.name == name for node in body):
        return None
    wanted, pending = set[str](), [name, *(one for node in body if not binds(node) for one in names_in(node))]
    while pending:
        one = pending.pop()
        if one not in wanted:
            wanted.add(one)
            pending += [inner for node in body if one in binds(node) for inner in names_in(node)]
    all_nodes = bool(wanted & _ANY_NAME)
    kept = [node for node in body if all_nodes or not binds(node) or binds(node) & wanted]
    return "\n".join(ast.unparse(_Bare().visit(node)) for node in kept if not _is_text(node))


def binds(node: ast.stmt) -> set[str]:
    """Return the names that a top-level statement does nothing but define; empty where it has another effect."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names):
            bound = {alias.asname or alias.name.partition(".")[0] for alias in names}
            return set() if "*" in bound else bound
        case ast.Assign(targets=targets):
            return set(_targets(targets)) if all(map(_is_name, targets)) else set()
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set()


def names_in(node: ast.AST) -> Iterator[str]:
    """Yield every name that a piece of code mentions."""
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name))


def _targets(targets: list[ast.expr]) -> Iterator[str]:
    return (name for target in targets for name in names_in(target))


def _is_name(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) or (
        isinstance(target, ast.Tuple | ast.List) and all(map(_is_name, target.elts))
    )


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


class _Bare(ast.NodeTransformer):
    """Removes statements that are only text."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.Pass() if _is_text(node) else node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, _DEFINITIONS) and len(node.body) > 1:
            node.body = [one for one in node.body if not isinstance(one, ast.Pass)] or node.body[:1]
        return node

"""Compile a recipe: the passes from its text to its graph."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from recipec import Verb
from recipec.checks.run_checks import check_all
from recipec.diagnostics.model import PYTHON, Diagnostic, Span
from recipec.language.resolve import resolve
from recipec.language.yaml_reader import read_source
from recipec.reading.recipe import read_recipe
from recipec.yaml_io import text_of, to_yaml

if TYPE_CHECKING:
    from recipec.graph import Graph
    from recipec.language.resolve import Resolved
    from recipec.reading.partial import Reading
    from recipec.spec.recipe import Recipe


UNKNOWN_KEY, BAD_VALUE = "RC130", "RC132"
INCOMPLETE = ("RC133", "RC136", "RC138")
"""Errors of a section that lacks something, whatever is proposed for it."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of compiling a recipe: its graph, if there are no errors, and the diagnostics."""

    resolved: Resolved
    reading: Reading
    recipe: Recipe | None
    graph: Graph | None
    diagnostics: tuple[Diagnostic, ...]

    @property
    def ok(self) -> bool:
        """Whether there are no errors; a valid fragment is never compiled."""
        return not any(diagnostic.is_error for diagnostic in self.diagnostics)

    @property
    def texts(self) -> Mapping[str, str]:
        """The text of every file that was read, the recipe first, and the overrides of the command line."""
        return dict(self.resolved.texts)

    def spans(self, key: str) -> tuple[Span, ...]:
        """Return where the recipe says a dotted key."""
        return self.resolved.spans(tuple(key.split(".")))


def check_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, text: str | None = None) -> Compiled:
    """Check a recipe file, or ``text`` under the name ``path``; errors of the user are returned, not raised."""
    source = read_source(path, text)  # text                   -> values with their positions
    resolved = resolve(source, overrides)  # extends, ${...}, --set -> plain data with positions
    reading = read_recipe(resolved)  # slot by slot           -> frozen specs
    checked = check_all(reading)
    if not resolved.complete:  # what a warning misses may be in the part that was not read
        checked = [diagnostic for diagnostic in checked if diagnostic.is_error]
    diagnostics = (*resolved.diagnostics, *reading.diagnostics, *checked)
    return Compiled(resolved, reading, reading.recipe, None, _tried(resolved, diagnostics))


def _tried(resolved: Resolved, diagnostics: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
    """Compile the edits that the messages propose, and say of those that are not accepted why.

    All edits are made in one copy of the recipe, so that a recipe with many mistakes is compiled twice, not many times.
    """
    proposed = [diagnostic.proposal for diagnostic in diagnostics if diagnostic.proposal is not None]
    if not proposed:
        return diagnostics
    data = deepcopy(resolved.data)
    for diagnostic in diagnostics:
        if diagnostic.code == UNKNOWN_KEY:
            _removed(data, diagnostic.path.split("."))
    for proposal in proposed:
        _removed(data, [*map(str, proposal.at)])
        for path, value in proposal.edits:
            _put(data, path.split("."), json.loads(value))
    copy = resolve(read_source(resolved.files[0], text_of(data)))
    reading = read_recipe(copy)
    known = {(diagnostic.code, diagnostic.path, diagnostic.message) for diagnostic in diagnostics}
    errors = [
        error
        for error in (*copy.diagnostics, *reading.diagnostics, *check_all(reading))
        if error.is_error and (error.code, error.path, error.message) not in known
    ]
    return tuple(_with_verdict(diagnostic, errors) for diagnostic in diagnostics)


def _with_verdict(diagnostic: Diagnostic, errors: Sequence[Diagnostic]) -> Diagnostic:
    """Replace a proposal that is not accepted by the reason."""
    proposal = diagnostic.proposal
    if proposal is None:
        return diagnostic
    for error in errors:
        if any(_concerns(error, path, exact=proposal.exact) for path, _ in proposal.edits):
            reason = f"{proposal.refused}: {error.message}" + (f" ({error.help})" if error.help else "")
            return replace(diagnostic, help=diagnostic.help.replace(proposal.text, reason), fix=None)
    return diagnostic


def _concerns(error: Diagnostic, path: str, *, exact: bool) -> bool:
    """Whether an error is about an edit at ``path``: about its place, the section around it, or its value."""
    below = f"{error.path}.".startswith(f"{path}.") and (exact or error.code != BAD_VALUE)
    around = bool(error.path) and path.startswith(f"{error.path}.") and error.code not in INCOMPLETE
    return below or around


def _removed(data: Any, path: Sequence[str]) -> None:
    for step in path[:-1]:
        data = data.get(step) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data.pop(path[-1], None)


def _put(data: Any, path: Sequence[str], value: Any) -> None:
    """Set a value, unless the recipe says it already."""
    for step in path[:-1]:
        if not isinstance(data, dict):
            return
        data = data.setdefault(step, {})
    if isinstance(data, dict):
        data.setdefault(path[-1], value)


def compile_recipe(path: str | os.PathLike[str], overrides: Sequence[str] = (), *, text: str | None = None) -> Compiled:
    r"""Check a recipe and, if there are no errors, compile it to a graph.

    >>> compile_recipe("r.yaml", text="recipec: 1\nname: r\nstages: {}\n").ok
    False
    """
    checked = check_recipe(path, overrides, text=text)
    if checked.recipe is None or not checked.ok:
        return checked
    return replace(checked, graph=compile_graph(checked.recipe, given_keys(checked.reading)))


def compile_graph(recipe: Recipe, keys: Sequence[str] = ()) -> Graph:
    """Lower and optimise a valid recipe; the graph is verified before and after.

    ``keys`` are the dotted keys that the files set: the graph must have read each of them.
    """
    from recipec.lowering.grammar import verify  # noqa: PLC0415 - `validate` does not lower
    from recipec.lowering.lower import lower  # noqa: PLC0415
    from recipec.lowering.optimise import optimise  # noqa: PLC0415

    graph = verify(lower(recipe))  # stages -> nodes, with explicit sums, broadcasts and loops
    return verify(optimise(graph), keys=keys)  # removals that do not change the result


def compile_model(recipe: Recipe, overrides: Sequence[str] = ()) -> Compiled:
    """Compile a recipe that was built in Python, through its YAML text."""
    return compile_recipe(PYTHON, overrides, text=to_yaml(recipe))


def given_keys(reading: Reading) -> list[str]:
    """Return the dotted keys that the files set."""
    keys = set(reading.consumed)
    inner = {key.rpartition(".")[0] for key in keys}
    return sorted(key for key in keys - inner if key and not _is_nothing(_value(reading.resolved.data, key)))


def _is_nothing(value: object) -> bool:
    """Whether a value says nothing: null, an empty list, or a mapping of such values."""
    return value in (None, []) or (isinstance(value, Mapping) and all(_is_nothing(inner) for inner in value.values()))


def _value(data: object, key: str) -> object:
    for step in key.split("."):
        data = data.get(step) if isinstance(data, Mapping) else None
    return data


sys.modules[__name__].__class__ = Verb
